"""The names that the options accept are those of the libraries, which `--help` does not import."""

import dataclasses
import inspect
import typing

from fourdvd_cli.commands.export import export
from fourdvd_cli.commands.generate import generate
from fourdvd_cli.commands.grid import grid
from fourdvd_cli.commands.reconstruct import reconstruct
from fourdvd_cli.commands.run import run
from fourdvd_cli.options import (
    Axes,
    Degrees,
    Format,
    Model,
    Motion,
    MotionOption,
    OrbitModel,
    Precision,
    Quality,
    parse_degrees,
)
from generation.clip.preparing import ClipOptions
from generation.presets import presets
from generation.settings import MODELS, ORBIT_MODELS, PRECISIONS, GenerateSettings
from recon.deformation.interface import motion_models
from recon.exporters import exporters
from recon.exporters.axes import AXES
from recon.exporters.options import ExportOptions
from recon.fitting.config import DEFAULT_MOTION, DEFAULT_QUALITY, QUALITIES
from recon.grid.view_videos import SV4D_DISTANCE, SV4D_FOV_DEG


def default_of(command, option: str):
    return inspect.signature(command).parameters[option].default


def test_the_formats_are_those_of_the_exporters():
    assert {name.value for name in Format} == set(exporters)


def test_the_motion_models_are_those_that_move():
    assert {name.value for name in Motion} == set(motion_models) - {"static"}


def test_the_qualities_and_the_defaults_of_a_fit_are_those_of_the_library():
    assert {name.value for name in Quality} == set(QUALITIES)
    assert default_of(reconstruct, "quality").value == DEFAULT_QUALITY
    assert default_of(run, "quality").value == DEFAULT_QUALITY
    assert default_of(reconstruct, "motion") is default_of(run, "motion") is None
    assert typing.get_args(MotionOption)[1].show_default == DEFAULT_MOTION


def test_the_axes_are_those_of_the_exporters():
    assert {name.value for name in Axes} == set(AXES)


def test_the_defaults_of_export_are_those_of_the_library():
    options = {field.name: field.default for field in dataclasses.fields(ExportOptions)}
    assert default_of(export, "max_faces") == options["faces"]
    assert default_of(export, "texture_size") == options["texture_size"]
    assert default_of(export, "axes").value == options["axes"]
    assert default_of(export, "frames") == options["frames"]


def test_the_default_camera_of_view_videos_is_that_of_sv4d():
    assert (default_of(grid, "fov"), default_of(grid, "distance")) == (SV4D_FOV_DEG, SV4D_DISTANCE)


def test_degrees_read_back_as_they_are_shown():
    angles = Degrees((0.0, 22.5, -10.0))
    assert parse_degrees(str(angles)) == angles


def test_the_choices_of_generate_are_those_of_the_library():
    assert tuple(model.key for model in Model) == MODELS
    assert set(MODELS) == set(presets)
    assert tuple(model.value for model in OrbitModel) == ORBIT_MODELS
    assert tuple(precision.value for precision in Precision) == PRECISIONS


def test_the_defaults_of_generate_are_those_of_the_library():
    settings, clip = GenerateSettings(), ClipOptions()
    assert default_of(generate, "model").key == settings.model
    assert default_of(run, "model").key == settings.model
    assert default_of(generate, "orbit_model") is settings.orbit_model is None
    assert default_of(generate, "fov") == settings.fov_deg
    assert default_of(generate, "distance") == settings.distance
    for name in ("size", "elevation", "steps", "views"):  # the model's own
        assert default_of(generate, name) is None
    sizes = {name: preset.size for name, preset in presets.items()}
    assert sizes == dict.fromkeys(MODELS, clip.size) | {"mini": 128}
    for name in ("frames", "start", "stop", "fps", "recenter", "remove_background"):
        assert default_of(generate, name) == getattr(clip, name)
