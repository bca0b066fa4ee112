import dataclasses

import pytest

from recon.errors import InputError
from recon.exporters.options import ExportOptions


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", 0),
        ("frames", -3),
        ("faces", 3),
        ("texture_size", 0),
        ("texture_size", 100_000),
        ("resolution", 2),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: int):
    with pytest.raises(InputError, match=f"expected {name} from .* found {value}"):
        dataclasses.replace(ExportOptions(), **{name: value})


def test_an_unknown_kind_of_color_is_refused_with_the_known_names():
    with pytest.raises(InputError, match="texture, vertices"):
        ExportOptions(color="neon")
