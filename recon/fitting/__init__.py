"""Fits deformable Gaussians to a grid."""
