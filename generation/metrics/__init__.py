"""Metrics with networks: LPIPS, ST-LPIPS, CLIP-S and FVD; they plug into `recon.evaluation`.

    lpips.py      LPIPS with the features of VGG16 or AlexNet
    st_lpips.py   shift-tolerant LPIPS, with the weights of the package `stlpips-pytorch`
    clip.py       cosine of CLIP's image features
    i3d.py        I3D, the network of FVD
    frechet.py    distances of features: of one video and one video, and of two sets of videos
    fvd.py        which images make a video: FVD-F, FVD-V, FVD-Diag, FVD of free-view videos
    loading.py    metrics by name, with their weights

Example:
    >>> from recon import evaluate
    >>> evaluate("out/scene", against="truth", metrics=load_metrics(["psnr", "lpips"]))
"""

from generation.metrics.loading import load_metrics

__all__ = ["load_metrics"]
