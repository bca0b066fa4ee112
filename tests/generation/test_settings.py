import subprocess
import sys
from typing import Any

import pytest

from generation.settings import (
    CASCADES,
    MODELS,
    ORBIT_MODELS,
    PRECISIONS,
    GenerateSettings,
    check_size,
)
from recon.errors import InputError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"model": "sv5d"},
            "unknown model 'sv5d'; expected one of lift, mini, sv4d2, sv4d2_8views, sv4d",
        ),
        ({"orbit_model": "sv3d"}, "unknown orbit model 'sv3d'; expected one of sv3d_u, sv3d_p"),
        ({"precision": "int8"}, "unknown precision 'int8'.*bfloat16"),
        *(({"model": "mini", "steps": bad}, "steps: expected 1 to 1000") for bad in (0, -1, 1001)),
        *(({"model": "mini", "views": bad}, "views: expected 1 to 20") for bad in (0, -3, 21)),
        *(({"model": "lift", "views": bad}, "views: expected 1 to 360") for bad in (0, 361)),
        *(
            ({"elevation_deg": bad}, "elevation_deg: .* -90 to 90")
            for bad in (-90.1, 91.0, NAN, INF)
        ),
        *(({"fov_deg": bad}, "fov_deg: expected 1 to 179") for bad in (0.0, 180.0, -30.0, NAN)),
        *(
            ({"distance": bad}, "distance: expected 0.001 to")
            for bad in (0.0, -1.0, 2000.0, NAN, INF)
        ),
        *(
            ({"azimuths_deg": bad}, "between 0 and 360")
            for bad in ((0.0,), (360.0,), (-10.0, 20.0), (10.0, 400.0), (NAN,), (10.0, INF))
        ),
        *(({"azimuths_deg": bad}, "ascending") for bad in ((20.0, 10.0), (5.0, 5.0))),
        (
            {"model": "mini", "azimuths_deg": tuple(map(float, range(1, 22)))},
            "at most 20 views, found 21",
        ),
        *(
            ({"model": name, "coarse_only": True}, f"^coarse_only: .*mini or 4dvd.* found {name}")
            for name in MODELS
            if name not in CASCADES
        ),
        *(
            ({"model": model, "orbit_model": name}, f"no orbit model for {model}.* found {name}")
            for name in ORBIT_MODELS
            for model in ("mini", "lift")
        ),
        ({"model": "lift", "steps": 10}, "no steps for lift.* found 10"),
        ({"azimuths_deg": (10.0, 20.0), "views": 3}, "3 azimuths .* found 2"),
    ],
)
def test_options_out_of_range_are_refused(choices: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        GenerateSettings(**choices)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        *({"model": name} for name in MODELS),
        *({"model": "4dvd", "orbit_model": name} for name in ORBIT_MODELS),
        *({"precision": name} for name in PRECISIONS),
        {"model": "mini", "steps": 1}, {"model": "mini", "steps": 1000},
        {"views": 1}, {"views": 20},
        {"elevation_deg": -90.0}, {"elevation_deg": 0.0}, {"elevation_deg": 90.0},
        {"azimuths_deg": (0.5, 359.5), "views": 2},
        {"azimuths_deg": tuple(map(float, range(1, 21)))},
        {"model": "lift", "views": 360}, {"model": "lift", "size": 100},
        *({"model": name, "coarse_only": True} for name in CASCADES),
        {"fov_deg": 1.0}, {"fov_deg": 179.0}, {"distance": 1e-3},
    ],
)  # fmt: skip
def test_options_within_their_range_are_accepted(choices: dict[str, Any]):
    settings = GenerateSettings(**choices)
    assert {name: getattr(settings, name) for name in choices} == choices


@pytest.mark.parametrize("size", [64, 512, 576, 1024])
def test_multiples_of_64_are_accepted(size: int):
    check_size(size)


@pytest.mark.parametrize("size", [32, 72, 500, 577])
def test_other_sizes_are_refused(size: int):
    with pytest.raises(InputError, match=f"multiple of 64 pixels, found {size}"):
        check_size(size)


def test_public_names_of_settings_import_nothing_heavy():
    heavy = {"torch", "diffusers", "transformers"}
    code = f"import sys, generation, generation.settings; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
