"""Procedurally generated, animated characters to train on; they need no files and no Blender.

seed ─▶ generator ─▶ Figure ─▶ asset ─▶ BakedAsset      solids: the shapes of their parts
"""
