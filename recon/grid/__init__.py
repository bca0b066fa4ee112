"""Grids: posed images of a moving object, V views × T frames, in memory and on disk.

This package needs no torch.
"""

from recon.grid.cameras import Camera, orbit_camera
from recon.grid.grid import Grid, grid_from_views
from recon.grid.reading import has_split, read_grid
from recon.grid.writing import write_grid

__all__ = [
    "Camera",
    "Grid",
    "grid_from_views",
    "has_split",
    "orbit_camera",
    "read_grid",
    "write_grid",
]
