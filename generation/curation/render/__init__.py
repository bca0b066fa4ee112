"""Rendering of animated assets to grid folders, through Blender's Cycles or a fast rasterizer."""
