"""The grid on disk: posed images of a moving object, V views × T frames. Needs no torch.

cameras        pinhole cameras and their axes
grid           the one class that holds the images and names their axes
transforms     the keys of the JSON files, here and nowhere else
grouping       which images share a camera or a time
reading        folders to grids
writing        grids to folders
view_videos    grids from one video for each view
matte          alpha where files have none
contact_sheet  one picture of a grid, for people
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
