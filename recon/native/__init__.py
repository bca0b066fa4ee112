"""CPU kernels in C++ with a C interface: Gaussians, meshes, the image loss, bone blending."""
