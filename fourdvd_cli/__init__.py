"""fourdvd: one monocular video of a moving object in, a 4D asset out."""

__version__ = "0.1.0"
