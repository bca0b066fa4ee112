"""Video to grid: the cascaded multi-view video diffusion. Not built yet; see CHANGELOG.md."""
