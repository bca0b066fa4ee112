"""Fitting deformable 3D Gaussians to a grid: `fit` in memory, `reconstruct` into a folder."""
