"""Evaluation of scenes, grids and videos against a ground-truth grid.

evaluating.py   what is compared with what: scenes, grids, videos
matching.py     which image belongs to which true one: cameras and times
results.py      values of all images and videos, their means, and their JSON
sequences.py    a file of Gaussians or a mesh per frame; alignment.py: their similarity to the truth
table.py        methods × objects; pooling.py: one distance of the videos of all objects
"""

from recon.evaluation.evaluating import evaluate, evaluate_grid, evaluate_scene
from recon.evaluation.results import Evaluation, ImageMetrics

__all__ = ["Evaluation", "ImageMetrics", "evaluate", "evaluate_grid", "evaluate_scene"]
