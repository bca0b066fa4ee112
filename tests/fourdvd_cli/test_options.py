"""Choices and defaults of the options are those of the libraries, which help does not import."""

import dataclasses
import inspect
import typing

from fourdvd_cli.commands.export import export
from fourdvd_cli.commands.generate import generate
from fourdvd_cli.commands.grid import grid
from fourdvd_cli.commands.reconstruct import reconstruct
from fourdvd_cli.commands.run import run
from fourdvd_cli.commands.train import BranchOption, ConfigOption, RolesOption
from fourdvd_cli.options import (
    Axes,
    Degrees,
    ExportAxes,
    Format,
    Model,
    Motion,
    MotionOption,
    OrbitModel,
    Precision,
    Quality,
    TrainingSize,
    Up,
    one_of,
    parse_degrees,
)
from generation import lift_pipeline
from generation.clip.preparing import load_clip
from generation.curation.shards.pack_settings import PackSettings
from generation.models.appearance_propagation import ROLES
from generation.models.structure_branch import BRANCHES
from generation.pipelines import AUTO, load_pipeline, pipelines
from generation.presets import presets
from generation.settings import MODELS, ORBIT_MODELS, PRECISIONS, GenerateSettings
from generation.training.config import CONFIGS
from recon.deformation.interface import motion_models
from recon.exporters import exporters
from recon.exporters.conventions import AXES, SOURCE_AXES
from recon.exporters.options import EXPECTED_AXES, PLAYER, ExportOptions
from recon.fitting.config import DEFAULT_MOTION, DEFAULT_QUALITY, QUALITIES
from recon.grid.orientation import AXES as UP_AXES
from recon.grid.view_cameras import SV4D_DISTANCE, SV4D_FOV_DEG


def default_of(command, option: str):
    return inspect.signature(command).parameters[option].default


def option_of(command_or_alias, option: str = ""):
    """The typer.Option of a command's parameter, or of an alias."""
    annotation = command_or_alias
    if option:
        annotation = (
            inspect.signature(command_or_alias, eval_str=True).parameters[option].annotation
        )
    return typing.get_args(annotation)[1]


def test_the_formats_are_those_of_the_exporters():
    assert {name.value for name in Format} == set(exporters)


def test_the_motion_models_are_those_of_the_library_but_static():
    assert {name.value for name in Motion} == set(motion_models) - {"static"}


def test_the_qualities_and_the_defaults_of_a_fit_are_those_of_the_library():
    assert {name.value for name in Quality} == set(QUALITIES)
    assert default_of(reconstruct, "quality").value == DEFAULT_QUALITY
    assert default_of(run, "quality").value == DEFAULT_QUALITY
    assert default_of(reconstruct, "motion") is default_of(run, "motion") is None
    assert option_of(MotionOption).show_default == DEFAULT_MOTION


def test_the_axes_are_those_of_the_exporters():
    assert {name.value for name in Axes} == set(AXES)
    assert {name.value for name in ExportAxes} == {*AXES, SOURCE_AXES}
    assert {name.value for name in Up} == {*UP_AXES, "auto"}
    assert {*EXPECTED_AXES, PLAYER} == set(exporters)


def test_the_defaults_of_export_are_those_of_the_library():
    options = {field.name: field.default for field in dataclasses.fields(ExportOptions)}
    assert default_of(export, "max_faces") == options["faces"]
    assert default_of(export, "texture_size") == options["texture_size"]
    assert default_of(export, "axes") is options["axes"] is None
    assert default_of(export, "pad_sh") == options["pad_sh"]
    assert default_of(export, "frames") == options["frames"]


def test_the_default_camera_of_view_videos_is_that_of_sv4d():
    assert (default_of(grid, "fov"), default_of(grid, "distance")) == (SV4D_FOV_DEG, SV4D_DISTANCE)


def test_degrees_read_back_as_they_are_shown():
    angles = Degrees((0.0, 22.5, -10.0))
    assert parse_degrees(str(angles)) == angles


def test_the_choices_of_generate_are_those_of_the_library():
    assert tuple(model.key for model in Model) == (AUTO, *MODELS)
    assert set(MODELS) == set(pipelines)
    assert tuple(model.value for model in OrbitModel) == ORBIT_MODELS
    assert tuple(precision.value for precision in Precision) == PRECISIONS


def test_the_defaults_of_generate_are_those_of_the_library():
    settings, clip = GenerateSettings(), inspect.signature(load_clip).parameters
    assert default_of(generate, "model").key == default_of(run, "model").key == AUTO
    assert inspect.signature(load_pipeline).parameters["name"].default == AUTO
    assert default_of(generate, "orbit_model") is settings.orbit_model is None
    assert default_of(generate, "fov") == settings.fov_deg
    assert default_of(generate, "distance") == settings.distance
    for name in ("size", "elevation", "steps", "views"):  # the model's own
        assert default_of(generate, name) is None
    sizes = {name: preset.size for name, preset in presets.items()}
    assert sizes | {"lift": lift_pipeline.SIZE} == dict.fromkeys(MODELS, 576) | {
        "lift": 256,
        "mini": 128,
    }
    for name in ("frames", "start", "stop", "fps", "source_fps", "recenter", "remove_background"):
        assert default_of(generate, name) == clip[name].default


def test_the_sizes_of_training_images_are_those_of_packs():
    assert {name.value for name in TrainingSize} == set(PackSettings().sizes)


def test_the_names_of_trainings_are_those_of_the_library():
    for alias, names in ((ConfigOption, CONFIGS), (BranchOption, BRANCHES), (RolesOption, ROLES)):
        assert all(name in option_of(alias).help for name in names)


def test_choices_are_listed_with_or():
    assert one_of(Quality) == "draft, standard or high"
