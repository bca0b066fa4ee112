"""Animated 3D assets: where they are, where they come from, and which are refused."""
