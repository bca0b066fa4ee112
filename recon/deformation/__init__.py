"""Deformation models, which move the canonical Gaussians to a time.

They share the interface `Deformation` and are found by name in `motion_models`. A model is built
from the canonical Gaussians and the times of the images, saved as plain tensors and loaded from
them.
"""

from recon.deformation.interface import Deformation, load_deformation, motion_models

__all__ = ["Deformation", "load_deformation", "motion_models"]
