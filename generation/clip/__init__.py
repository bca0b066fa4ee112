"""Preparation of the input clip: from a video of one object to square frames with alpha."""
