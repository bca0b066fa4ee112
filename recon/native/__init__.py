"""CPU kernels in C++ with a plain C interface: the rasterizer and the image loss."""
