"""Procedurally generated, animated characters for training; they need no files and no Blender.

    seed ─▶ generator ─▶ Figure ─▶ asset ─▶ BakedAsset

`solids` has the shapes of their parts.
"""
