import io
import zipfile

import numpy as np
import pytest
import torch

from recon.errors import InputError
from recon.exporters.options import ExportOptions
from recon.exporters.ply import ply_files
from recon.exporters.ply_zip import gaussians_from_zip, zip_files
from recon.scene import Scene

OPTIONS = ExportOptions()


def zipped(scene: Scene, times: np.ndarray, options: ExportOptions = OPTIONS) -> bytes:
    ((name, data),) = zip_files(scene, times, options)
    assert name == "scene.zip"
    return data


@pytest.mark.parametrize("options", [OPTIONS, ExportOptions(pad_sh=True)])
def test_the_zip_holds_the_files_of_the_sequence(scene: Scene, options: ExportOptions):
    with zipfile.ZipFile(io.BytesIO(zipped(scene, scene.times, options))) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == dict(ply_files(scene, scene.times, options))


def test_frames_are_read_in_order(scene: Scene):
    data = zipped(scene, scene.times)
    last = scene.at(1.0).means
    found = gaussians_from_zip(data, 4).means
    torch.testing.assert_close(found[:, 0], last[:, 0])


def test_equal_scenes_give_equal_bytes(scene: Scene):
    assert zipped(scene, scene.times) == zipped(scene, scene.times)


def test_a_missing_frame_and_other_data_are_refused(scene: Scene):
    with pytest.raises(InputError, match="6 PLY files"):
        gaussians_from_zip(zipped(scene, scene.times), 5)
    with pytest.raises(InputError, match="zip"):
        gaussians_from_zip(b"no zip", 0)
