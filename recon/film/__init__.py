"""Camera paths and videos rendered along them."""
