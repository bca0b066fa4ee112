"""Grids: posed images of a moving object, V views × T frames, in memory and on disk.

This package needs no torch.
"""

from recon.grid.cameras import Camera, orbit_camera
from recon.grid.grid import Grid, grid_from_views
from recon.grid.reading import Splits, has_split, read_grid, read_splits
from recon.grid.writing import write_grid

__all__ = [
    "Camera",
    "Grid",
    "Splits",
    "grid_from_views",
    "has_split",
    "orbit_camera",
    "read_grid",
    "read_splits",
    "write_grid",
]
