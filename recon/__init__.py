"""Grid to 4D asset: deformable 3D Gaussians fitted to posed images, and what they export to."""
