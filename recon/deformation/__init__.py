"""Deformation models: how the canonical Gaussians move to a time.

One interface, `Deformation`, one file for each model, one table by name. A model is built from the
canonical Gaussians and the times of the images, is saved as plain tensors, and is loaded from them.
"""

from recon.deformation.interface import Deformation, load_deformation, motion_models

__all__ = ["Deformation", "load_deformation", "motion_models"]
