"""The published weights of the metrics with networks, as `catalogue` has those of the models.

    lpips        vgg16-397923af.pth, lpips_v0.1_vgg.pth
    lpips-alex   alexnet-owt-7be5be79.pth, lpips_v0.1_alex.pth
    clip         clip-vit-base-patch32.bin
    fvd          i3d_pretrained_400.pt

Light to import. `metric_files` finds, checks and downloads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from generation.weights.catalogue import HUB

_TORCHVISION = "BSD-3-Clause (torchvision)"
_LPIPS_COMMIT = "082bb24f84c091ea94de2867d34c4544f68e0963"
_LPIPS = f"https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/{_LPIPS_COMMIT}"
CLIP_COMMIT = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
_TATS_COMMIT = "03bbce1daa3da7e9bff8221e9ec433df9484817f"
_TATS = f"https://raw.githubusercontent.com/songweige/TATS/{_TATS_COMMIT}"


@dataclass(frozen=True)
class MetricFile:
    """A published file of weights.

    Attributes:
        name: name of the file on this machine.
        url: where it is downloaded from.
        license: name of its license.
        sha256: of its content; "" where only `git_blob` is known.
        git_blob: identifier of its content in a git repository (SHA-1); "" if `sha256` is known.
        size_bytes: its size; None if unknown.
        cached_as: repository and name in the Hugging Face cache; None if it is not on the hub.
    """

    name: str
    url: str
    license: str
    sha256: str = ""
    git_blob: str = ""
    size_bytes: int | None = None
    cached_as: tuple[str, str] | None = None


@dataclass(frozen=True)
class MetricModel:
    """The files that a metric needs.

    Attributes:
        name: name in commands.
        files: its files, in the order in which its loader takes them.
    """

    name: str
    files: tuple[MetricFile, ...]

    @property
    def label(self) -> str:
        """The name in commands and messages."""
        return self.name

    @property
    def license(self) -> str:
        """Names of the licenses of its files."""
        return ", ".join(dict.fromkeys(file.license for file in self.files))

    @property
    def fetch_command(self) -> str:
        """The command that downloads the files."""
        return f"`fourdvd models fetch {self.name}`"


metric_models = {
    model.name: model
    for model in (
        MetricModel(
            "lpips",
            (
                MetricFile(
                    "vgg16-397923af.pth",
                    "https://download.pytorch.org/models/vgg16-397923af.pth",
                    _TORCHVISION,
                    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                    size_bytes=553_433_881,
                ),
                MetricFile(
                    "lpips_v0.1_vgg.pth",
                    f"{_LPIPS}/lpips/weights/v0.1/vgg.pth",
                    "BSD-2-Clause",
                    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                    size_bytes=7_289,
                ),
            ),
        ),
        MetricModel(
            "lpips-alex",
            (
                MetricFile(
                    "alexnet-owt-7be5be79.pth",
                    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                    _TORCHVISION,
                    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                    size_bytes=244_408_911,
                ),
                MetricFile(
                    "lpips_v0.1_alex.pth",
                    f"{_LPIPS}/lpips/weights/v0.1/alex.pth",
                    "BSD-2-Clause",
                    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
                    size_bytes=6_009,
                ),
            ),
        ),
        MetricModel(
            "clip",
            (
                MetricFile(
                    "clip-vit-base-patch32.bin",
                    f"{HUB}/openai/clip-vit-base-patch32/resolve/{CLIP_COMMIT}/pytorch_model.bin",
                    "MIT (OpenAI CLIP)",
                    "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
                    size_bytes=605_247_071,
                    cached_as=("openai/clip-vit-base-patch32", "pytorch_model.bin"),
                ),
            ),
        ),
        MetricModel(
            "fvd",
            (
                MetricFile(
                    "i3d_pretrained_400.pt",
                    f"{_TATS}/tats/fvd/i3d_pretrained_400.pt",
                    "not stated; from DeepMind's I3D, Apache-2.0",
                    git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
                ),
            ),
        ),
    )
}
