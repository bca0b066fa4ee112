"""Figures by lot, to train on: animated, with the sides that animals and machines have.

    seed ─▶ random_figure ─▶ figure ─▶ baking ─▶ asset      solids: what figures consist of

There is no end of them, and they need no files, no Blender and nobody's licence.
"""
