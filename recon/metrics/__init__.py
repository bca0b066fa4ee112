"""Metrics of images and videos: what each compares, and the implementations without a network.

image.py       PSNR, SSIM, IoU of silhouettes
sharpness.py   contrast of neighboring pixels relative to the truth
flip.py        FLIP, NVIDIA's difference of images shown in alternation
catalog.py     names of all metrics, also of those of `generation.metrics` that need weights
interface.py   what a metric of images or videos implements
"""
