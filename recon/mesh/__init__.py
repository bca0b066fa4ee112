"""Textured, animated meshes from a fitted scene."""
