import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.exporters.ply import gaussians_from_ply, ply_from_gaussians
from recon.gaussians import Gaussians, gaussians_from_points


def test_a_ply_read_back_is_the_gaussians_with_unit_quaternions(random_gaussians: Gaussians):
    read = gaussians_from_ply(ply_from_gaussians(random_gaussians))
    assert torch.equal(read.quats, F.normalize(random_gaussians.quats, dim=-1))
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        assert torch.equal(getattr(read, name), getattr(random_gaussians, name))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_degree_survives_the_round_trip(degree: int):
    gaussians = gaussians_from_points(torch.zeros(3, 3), torch.full((3, 3), 0.5), 0.1, 0.5, degree)
    assert gaussians_from_ply(ply_from_gaussians(gaussians)).sh_degree == degree


def test_higher_coefficients_are_stored_channel_by_channel(random_gaussians: Gaussians):
    data = ply_from_gaussians(random_gaussians)
    header, body = data.split(b"end_header\n", 1)
    names = [line.split()[2] for line in header.decode().splitlines() if "property" in line]
    table = np.frombuffer(body, "<f4").reshape(50, -1)
    column = names.index("f_rest_17")  # the third of the green ones
    np.testing.assert_array_equal(table[:, column], random_gaussians.shN[:, 2, 1])


@pytest.mark.parametrize("degree", [0, 2, 3])
def test_padding_gives_the_62_properties_of_the_original(degree: int):
    gaussians = gaussians_from_points(torch.zeros(3, 3), torch.full((3, 3), 0.5), 0.1, 0.5, degree)
    gaussians.shN.normal_(generator=torch.Generator().manual_seed(0))
    data = ply_from_gaussians(gaussians, pad_sh=True)
    header, body = data.split(b"end_header\n", 1)
    names = [line.split()[2] for line in header.decode().splitlines() if "property" in line]
    assert len(body) == 3 * 62 * 4
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:54] == [f"f_rest_{k}" for k in range(45)]
    assert names[54] == "opacity" and names[-1] == "rot_3"
    read = gaussians_from_ply(data)
    K = gaussians.shN.shape[1]
    assert torch.equal(read.shN[:, :K], gaussians.shN) and not read.shN[:, K:].any()


def test_other_property_orders_types_and_normals_are_read(random_gaussians: Gaussians):
    """As 4DGaussians writes `time_00000.ply`, and with doubles, a comment and Windows line ends."""
    ours = gaussians_from_ply(ply_from_gaussians(random_gaussians))
    names = ["rot_0", "rot_1", "rot_2", "rot_3", "nx", "x", "y", "z", "opacity"]
    names += [f"f_rest_{k}" for k in range(45)] + [f"scale_{k}" for k in range(3)]
    names += [f"f_dc_{k}" for k in range(3)]
    columns = [ours.quats, torch.zeros(50, 1), ours.means, ours.opacities[:, None]]
    columns += [ours.shN.transpose(1, 2).flatten(1), ours.scales, ours.sh0[:, 0]]
    header = ["ply", "format binary_little_endian 1.0", "comment theirs", "element vertex 50"]
    header += [f"property double {name}" for name in names] + ["end_header\r\n"]
    data = "\r\n".join(header).encode() + torch.cat(columns, 1).double().numpy().tobytes()
    for read, expected in zip(gaussians_from_ply(data), ours, strict=True):
        assert torch.equal(read, expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "PLY file"),
        (b"ply\nformat ascii 1.0\nend_header\n", "binary_little_endian"),
        (b"ply\nformat binary_little_endian 1.0\nelement face 2\nend_header\n", "vertex"),
        (
            b"ply\nformat binary_little_endian 1.0\nelement vertex 0\nproperty int x\nend_header\n",
            "properties y, z",
        ),
    ],
)
def test_files_other_than_a_ply_of_gaussians_are_refused(data: bytes, message: str):
    with pytest.raises(InputError, match=message):
        gaussians_from_ply(data)


@pytest.mark.parametrize("count", ["", " abc", " -50", " 5.5"])
def test_a_ply_without_a_number_of_vertices_is_refused(random_gaussians: Gaussians, count: str):
    data = ply_from_gaussians(random_gaussians)
    data = data.replace(b"element vertex 50", b"element vertex" + count.encode())
    with pytest.raises(InputError, match="number of vertices"):
        gaussians_from_ply(data)


def test_a_truncated_ply_is_refused(random_gaussians: Gaussians):
    with pytest.raises(InputError, match="truncated"):
        gaussians_from_ply(ply_from_gaussians(random_gaussians)[:-1])
