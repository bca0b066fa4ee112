"""From Gaussians to an animated, textured triangle mesh."""
