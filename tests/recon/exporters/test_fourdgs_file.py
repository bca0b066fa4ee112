import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recon.errors import BackendError, InputError
from recon.exporters import packages
from recon.exporters.conventions import rotation_to
from recon.exporters.folder import export
from recon.exporters.fourdgs_file import (
    fourdgs_from_gaussians,
    gaussians_at,
    gaussians_from_fourdgs,
)
from recon.exporters.options import ExportOptions
from recon.exporters.verification import verify_export
from recon.gaussians import Gaussians
from recon.rotations import quats_to_matrices
from recon.scene import Scene

SECONDS, FPS = np.arange(10) / 10, 10.0  # more than one keyframe
Y_UP = rotation_to("y-up").numpy()


@pytest.fixture
def fourdgs() -> Any:
    return pytest.importorskip("fourdgs", reason="needs the extra [formats]")


def fourdgs_module(name: str) -> Any:
    return importlib.import_module(f"fourdgs.{name}")


@pytest.fixture
def frames(random_gaussians: Gaussians) -> list[Gaussians]:
    """Gaussians that move by a unit per second along +X."""
    step = torch.tensor([1.0, 0, 0])
    colored = random_gaussians._replace(sh0=random_gaussians.sh0.clamp(-1.7, 1.7))
    return [colored._replace(means=colored.means + float(time) * step) for time in SECONDS]


def tolerance(gaussians: Gaussians) -> float:
    return 0.05 * float(gaussians.scales.exp().median())


def test_every_frame_is_read_again(fourdgs, frames: list[Gaussians]):
    data = fourdgs_from_gaussians(frames, SECONDS, FPS, Y_UP)
    for index, expected in enumerate(frames):
        found = gaussians_from_fourdgs(data, index)
        torch.testing.assert_close(found.means, expected.means, atol=tolerance(expected), rtol=0)
        torch.testing.assert_close(found.scales, expected.scales, atol=0.006, rtol=0)
        torch.testing.assert_close(found.sh0, expected.sh0, atol=0.01, rtol=0)
        turns = quats_to_matrices(found.quats), quats_to_matrices(expected.quats)
        torch.testing.assert_close(*turns, atol=0.01, rtol=0)
        opacities = found.opacities.sigmoid(), expected.opacities.sigmoid()
        torch.testing.assert_close(*opacities, atol=0.003, rtol=0)


def test_between_the_frames_gaussians_move_and_do_not_fade(fourdgs, frames: list[Gaussians]):
    files: Any = fourdgs_module("keyframe_delta_file")
    decoded = files.decode_streamed(fourdgs_from_gaussians(frames, SECONDS, FPS, Y_UP))
    first, halfway = gaussians_at(decoded, 0.4), gaussians_at(decoded, 0.45)
    expected = frames[4].means + torch.tensor([0.05, 0, 0])
    torch.testing.assert_close(halfway.means, expected, atol=tolerance(frames[4]), rtol=0)
    torch.testing.assert_close(halfway.opacities, first.opacities, atol=1e-3, rtol=0)
    assert decoded.header.duration_sec == pytest.approx(1.0)
    assert [chunk.kind for chunk in decoded.chunks] == [0] + 7 * [1] + [0, 1]


def test_the_file_passes_the_validator_of_the_format(fourdgs, frames: list[Gaussians]):
    data = fourdgs_from_gaussians(frames, SECONDS, FPS, Y_UP)
    validate: Any = fourdgs_module("validate")
    assert validate.validate(data).findings == []
    files: Any = fourdgs_module("keyframe_delta_file")
    decoded, _ = files.decode_indexed(data)  # by offsets, as a player seeks
    assert len(decoded.chunks) == len(frames)


@pytest.mark.parametrize("axes, up, forward", [("y-up", 1, 2), ("z-up", 2, 4), ("y-down", 4, 5)])
def test_the_axes_are_named(fourdgs, frames: list[Gaussians], axes: str, up: int, forward: int):
    """The format counts +x, +y, +z, −x, −y, −z from 0."""
    modules = ("opcode", "records", "serialization")
    opcode, records, serialization = map(fourdgs_module, modules)
    data = fourdgs_from_gaussians(frames[:1], SECONDS[:1], FPS, rotation_to(axes).numpy())
    (found,) = [
        records.CoordinateFrame.parse(record.content)
        for record in serialization.iter_records(data, len(serialization.MAGIC))
        if record.opcode == opcode.COORDINATE_FRAME
    ]
    assert (found.handedness, found.up_axis, found.forward_axis) == (1, up, forward)
    assert found.metres_per_unit == 1


def test_renderings_agree_with_the_scene(fourdgs, scene: Scene, tmp_path: Path):
    export(scene, tmp_path, ["4dgs"])
    assert verify_export(scene, tmp_path)["4dgs"].worst_psnr > 45


def test_other_axes_and_other_data_are_refused(fourdgs, frames: list[Gaussians]):
    tilted = np.array([[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
    with pytest.raises(InputError, match="parallel"):
        fourdgs_from_gaussians(frames, SECONDS, FPS, tilted)
    data = fourdgs_from_gaussians(frames[:2], SECONDS[:2], FPS, Y_UP)
    for damaged in (b"", b"none", data[:200]):
        with pytest.raises(InputError):
            gaussians_from_fourdgs(damaged, 0)
    with pytest.raises(InputError, match="3 frames"):
        gaussians_from_fourdgs(data, 2)


def test_a_missing_package_is_reported(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match="fourdgs") as caught:
        export(scene, tmp_path / "out", ["4dgs"], ExportOptions())
    assert caught.value.hint == "pip install 'fourdvd[formats]'"
