"""A video as square frames with alpha."""
