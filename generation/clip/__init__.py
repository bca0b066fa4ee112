"""From a video of one object to square frames with alpha."""
