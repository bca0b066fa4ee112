import struct

import numpy as np
import pytest

from recon.errors import InputError
from recon.exporters.gltf import GlbWriter, read_glb


def written() -> tuple[bytes, dict[str, np.ndarray]]:
    arrays = {
        "bytes": np.arange(5, dtype=np.uint8),
        "indices": np.arange(6, dtype=np.uint32),
        "vectors": np.arange(12, dtype=np.float32).reshape(4, 3) - 5,
    }
    writer = GlbWriter()
    for name, array in arrays.items():
        writer.accessor(array, bounds=True, name=name)
    return writer.glb(), arrays


def test_arrays_read_back_are_the_arrays_written():
    data, arrays = written()
    glb = read_glb(data)
    for index, array in enumerate(arrays.values()):
        np.testing.assert_array_equal(glb.array(index), array)


def test_chunks_and_views_are_aligned_to_four_bytes():
    data, _ = written()
    text_length = struct.unpack_from("<I", data, 12)[0]
    assert len(data) % 4 == 0
    assert text_length % 4 == 0
    assert all(view["byteOffset"] % 4 == 0 for view in read_glb(data).json["bufferViews"])


def test_bounds_are_those_of_each_component():
    vectors = read_glb(written()[0]).json["accessors"][2]
    assert vectors["min"] == [-5, -4, -3]
    assert vectors["max"] == [4, 5, 6]


@pytest.mark.parametrize("data", [b"", b"not a GLB, only some text that is long enough"])
def test_files_other_than_glb_are_refused(data: bytes):
    with pytest.raises(InputError, match="not a GLB"):
        read_glb(data)


def test_a_truncated_glb_is_refused():
    with pytest.raises(InputError, match="truncated"):
        read_glb(written()[0][:-4])
