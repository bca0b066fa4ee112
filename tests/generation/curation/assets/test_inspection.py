"""Broken assets are refused before an importer opens them, always with a typed error."""

import json
import random
import struct
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from generation.curation.assets.files import find_assets
from generation.curation.assets.gltf import READABLE_EXTENSIONS
from generation.curation.assets.inspection import inspect
from generation.curation.assets.limits import AssetError, Inspection, Limits, Reason
from tests.generation.curation.tiny_assets import (
    Document,
    animated_box,
    animated_box_glb,
    box_primitive,
    edited,
    from_glb,
    morphing_box_glb,
    png,
    png_header,
    skinned_box_glb,
    to_glb,
    write_animated_box_gltf,
    write_obj_sequence,
)

BOX = animated_box_glb(texture=png())


def inspect_file(path: Path, limits: Limits | None = None) -> Inspection:
    (asset,) = find_assets([path])
    return inspect(asset, limits)


def inspect_glb(data: bytes, folder: Path, limits: Limits | None = None) -> Inspection:
    path = folder / "asset.glb"
    path.write_bytes(data)
    return inspect_file(path, limits)


def refusal(data: bytes, folder: Path, limits: Limits | None = None) -> AssetError:
    with pytest.raises(AssetError) as caught:
        inspect_glb(data, folder, limits)
    assert caught.value.path == folder / "asset.glb"
    return caught.value


def set_in(document: Any, keys: str, value: Any) -> None:
    """Sets `nodes.0.mesh` and the like."""
    *path, last = [int(key) if key.isdigit() else key for key in keys.split(".")]
    for key in path:
        document = document[key]
    document[last] = value


@pytest.mark.parametrize(
    ("data", "triangles", "animations"),
    [
        (animated_box_glb(), 24, ("move",)),
        (BOX, 24, ("move",)),
        (skinned_box_glb(), 12, ("twist",)),
        (morphing_box_glb(), 12, ("swell",)),
    ],
    ids=["rigid", "textured", "skinned", "morphing"],
)
def test_a_sound_file_passes_with_its_triangles_and_animations(
    tmp_path, data, triangles, animations
):
    assert inspect_glb(data, tmp_path) == Inspection(triangles, animations)


def test_triangles_are_those_that_an_independent_reader_finds(tmp_path):
    builder = animated_box()
    builder.node({"mesh": 0, "translation": [3, 0, 0]})
    (tmp_path / "box.glb").write_bytes(builder.glb())
    scene = trimesh.load_scene(tmp_path / "box.glb")
    assert inspect_file(tmp_path / "box.glb").triangles == scene.triangles.shape[0] == 36
    assert scene.volume == pytest.approx(3)


def test_meshes_that_no_node_shows_do_not_count(tmp_path):
    builder = animated_box()
    builder.add("meshes", {"primitives": [box_primitive(builder, 0, triangles=10_000_000)]})
    assert inspect_glb(builder.glb(), tmp_path).triangles == 24


@pytest.mark.parametrize(("mode", "count"), [(4, 24), (5, 68), (6, 68)])
def test_strips_and_fans_have_a_triangle_for_each_further_corner(tmp_path, mode, count):
    def change(document: Document) -> None:
        for mesh in document["meshes"]:
            mesh["primitives"][0]["mode"] = mode

    assert inspect_glb(edited(BOX, change), tmp_path).triangles == count


def test_instances_of_an_extension_count(tmp_path):
    builder = animated_box()
    places = builder.accessor(np.zeros((100, 3), "<f4"), "VEC3")
    builder.document["nodes"][1]["extensions"] = {
        "EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": places}}
    }
    assert inspect_glb(builder.glb(), tmp_path).triangles == 101 * 12


@pytest.mark.parametrize("embedded", [False, True])
def test_text_and_binary_files_give_the_same_inspection(tmp_path, embedded):
    path = write_animated_box_gltf(tmp_path, texture=png(), embedded=embedded)
    assert inspect_file(path) == inspect_glb(BOX, tmp_path)


def test_the_container_is_recognized_by_content_not_suffix(tmp_path):
    (tmp_path / "box.gltf").write_bytes(BOX)
    assert inspect_file(tmp_path / "box.gltf").triangles == 24


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.empty),
        (b"hello, world", Reason.wrong_format),
        (b"glTF", Reason.truncated),
        (BOX[:-1], Reason.truncated),
        (BOX[: len(BOX) // 2], Reason.truncated),
        (BOX + b"\0", Reason.malformed),
        (BOX[:4] + struct.pack("<I", 1) + BOX[8:], Reason.unsupported),
        (BOX[:12] + struct.pack("<I", 2**31) + BOX[16:], Reason.malformed),
        (BOX[:16] + b"BIN\0" + BOX[20:], Reason.malformed),
        (to_glb({}), Reason.unsupported),
        (to_glb({"asset": {"version": "1.0"}}), Reason.unsupported),
        (to_glb(from_glb(BOX)[0], from_glb(BOX)[1][:100]), Reason.truncated),
        (to_glb(from_glb(BOX)[0]), Reason.missing_buffer),
        (b"{" + b"[" * 200_000, Reason.malformed),
        (b'{"asset": {"version": NaN}}', Reason.malformed),
        (b'{"asset": "\xff"}', Reason.malformed),
        (b'{"a": 1' + b"0" * 10_000 + b"}", Reason.malformed),
    ],
)
def test_a_broken_container_is_refused(tmp_path, data, reason):
    assert refusal(data, tmp_path).reason is reason


def test_a_deleted_file_is_refused(tmp_path):
    (tmp_path / "a.glb").write_bytes(BOX)
    (asset,) = find_assets([tmp_path])
    asset.path.unlink()
    with pytest.raises(AssetError) as caught:
        inspect(asset)
    assert caught.value.reason is Reason.missing


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        ("nodes", {}, Reason.malformed),
        ("nodes", [1], Reason.malformed),
        ("nodes.1.mesh", 2, Reason.malformed),
        ("nodes.1.mesh", -1, Reason.malformed),
        ("nodes.1.mesh", True, Reason.malformed),
        ("nodes.1.mesh", 0.0, Reason.malformed),
        ("nodes.1.children", [0], Reason.malformed),
        ("nodes.1.children", [2], Reason.malformed),
        ("nodes.0.children", [0], Reason.malformed),
        ("nodes.1.skin", 0, Reason.malformed),
        ("nodes.1.scale", [1, 1], Reason.malformed),
        ("nodes.1.scale", [1, 1, 10**400], Reason.not_finite),
        ("meshes.0.primitives.0.attributes.POSITION", 99, Reason.malformed),
        ("accessors.0.count", 10**30, Reason.malformed),
        ("accessors.0.count", -5, Reason.malformed),
        ("accessors.0.sparse", {}, Reason.malformed),
        ("nodes.1.children", [None], None),
        ("accessors.0.count", 25, Reason.malformed),
        ("accessors.0.byteOffset", 2, Reason.malformed),
        ("accessors.0.componentType", 5124, Reason.malformed),
        ("accessors.0.type", "VEC5", Reason.malformed),
        ("accessors.0.bufferView", None, None),
        ("bufferViews.1.byteLength", 2**40, Reason.malformed),
        ("bufferViews.1.byteLength", 0, Reason.malformed),  # numpy would read beyond it
        ("bufferViews.1.byteStride", 13, Reason.malformed),
        ("bufferViews.1.byteStride", 4, Reason.malformed),
        ("bufferViews.1.buffer", None, Reason.malformed),
        ("animations.0.channels.0.sampler", 7, Reason.malformed),
        ("animations.0.channels.0.target", None, Reason.malformed),
        ("animations.0.samplers.0.output", 0, None),
        ("animations.0.samplers.0.interpolation", "CUBICSPLINE", Reason.malformed),
        ("animations.0.samplers.0.input", 0, Reason.malformed),
        ("images.0.bufferView", 99, Reason.malformed),
        ("extensionsRequired", "KHR_materials_unlit", Reason.malformed),
        ("extensionsRequired", ["KHR_materials_unlit"], Reason.malformed),
        ("extensionsRequired", ["EXT_meshopt_compression"], Reason.unsupported),
    ],
)
def test_an_invalid_document_is_refused(tmp_path, keys, value, reason):
    data = edited(BOX, lambda document: set_in(document, keys, value))
    if reason is None:
        inspect_glb(data, tmp_path)
    else:
        assert refusal(data, tmp_path).reason is reason


def test_the_message_names_the_field(tmp_path):
    data = edited(BOX, lambda document: set_in(document, "nodes.1.mesh", 2))
    error = refusal(data, tmp_path)
    assert error.sentence.startswith("nodes[1].mesh: ")
    assert str(error) == f"{tmp_path / 'asset.glb'}: {error.sentence}"


def test_a_required_extension_that_blender_reads_passes_and_another_is_named(tmp_path):
    def require(*names: str) -> bytes:
        both = {"extensionsRequired": list(names), "extensionsUsed": list(names)}
        return edited(BOX, lambda document: document.update(both))

    inspect_glb(require(*READABLE_EXTENSIONS), tmp_path)
    assert "KHR_texture_basisu" in refusal(require("KHR_texture_basisu"), tmp_path).sentence


def test_nodes_that_are_nested_more_deeply_than_blender_follows_are_refused(tmp_path):
    builder = animated_box()
    deepest = 0
    for _ in range(2000):
        deepest = builder.node({}, deepest)
    assert refusal(builder.glb(), tmp_path).reason is Reason.unsupported


def test_ten_million_declared_triangles_are_refused_with_their_number(tmp_path):
    data = animated_box_glb(triangles=10_000_000)
    assert len(data) < 10_000
    error = refusal(data, tmp_path)
    assert error.reason is Reason.too_many_triangles
    assert "20,000,000" in error.sentence


def test_the_triangle_limit_is_configurable(tmp_path):
    assert inspect_glb(BOX, tmp_path, Limits(triangles=24)).triangles == 24
    assert refusal(BOX, tmp_path, Limits(triangles=23)).reason is Reason.too_many_triangles


@pytest.mark.parametrize("mode", [None, 0, 1])
def test_no_triangles_are_refused(tmp_path, mode):
    def change(document: Document) -> None:
        for mesh in document["meshes"]:
            mesh["primitives"][0]["mode"] = mode
        if mode is None:
            document["nodes"] = [{}, {}, {}]

    assert refusal(edited(BOX, change), tmp_path).reason is Reason.no_triangles


def test_elements_without_data_that_would_fill_the_memory_are_refused(tmp_path):
    data = edited(
        BOX,
        lambda document: document["accessors"].append(
            {"componentType": 5126, "type": "MAT4", "count": 2**40}
        ),
    )
    assert refusal(data, tmp_path).reason is Reason.too_large


@pytest.mark.parametrize(
    "data",
    [
        animated_box_glb(animated=False),
        animated_box_glb(times=(0.0,)),
        edited(BOX, lambda document: set_in(document, "animations.0.channels", [])),
    ],
    ids=["none", "one keyframe", "no channel"],
)
def test_an_asset_without_animation_is_refused(tmp_path, data):
    assert refusal(data, tmp_path).reason is Reason.no_animation


def test_channels_that_move_no_node_are_no_animation(tmp_path):
    def change(document: Document) -> None:
        for channel in document["animations"][0]["channels"]:
            del channel["target"]["node"]

    assert refusal(edited(BOX, change), tmp_path).reason is Reason.no_animation


def test_only_animations_with_a_duration_are_named(tmp_path):
    builder = animated_box()
    builder.animate(1, "scale", [[1, 1, 1]], (0.0,), "pose")
    builder.animate(1, "scale", [[1, 1, 1], [2, 2, 2]], (0.0, 1.0), "grow")
    builder.document["animations"][2]["name"] = ""
    assert inspect_glb(builder.glb(), tmp_path).animations == ("move", "Anim_2")


@pytest.mark.parametrize("times", [(0.0, 0.5, 0.4), (0.0, 0.5, 0.5), (1.0, 0.5, 0.0)])
def test_keyframes_that_do_not_ascend_are_refused(tmp_path, times):
    error = refusal(animated_box_glb(times=times), tmp_path)
    assert error.reason is Reason.unordered_keyframes
    assert "'move'" in error.sentence


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (animated_box_glb(nan_keyframe=True), "animation 'move'"),
        (animated_box_glb(times=(0.0, 0.5, np.inf)), "animation 'move'"),
        (animated_box_glb(nan_position=True), "accessors[0]"),
        (skinned_box_glb(nan_bind=True), "accessors[6]"),
    ],
    ids=["value", "time", "position", "bind matrix"],
)
def test_numbers_that_are_not_finite_are_refused_with_their_place(tmp_path, data, named):
    error = refusal(data, tmp_path)
    assert error.reason is Reason.not_finite
    assert named in error.sentence


def sparse_box(place: int, value: float) -> bytes:
    """Boxes whose first position accessor is zeros, of which one is replaced."""
    builder = animated_box()
    builder.document["accessors"][0] = {
        "componentType": 5126,
        "type": "VEC3",
        "count": 24,
        "sparse": {
            "count": 1,
            "indices": {"bufferView": builder.view(bytes([place])), "componentType": 5121},
            "values": {"bufferView": builder.view(struct.pack("<3f", 1, value, 3))},
        },
    }
    return builder.glb()


def test_sparse_accessors_are_inspected(tmp_path):
    assert inspect_glb(sparse_box(23, 2.0), tmp_path).triangles == 24
    assert refusal(sparse_box(24, 2.0), tmp_path).reason is Reason.malformed
    assert refusal(sparse_box(23, np.nan), tmp_path).reason is Reason.not_finite


def test_sparse_keyframe_times_are_assembled(tmp_path):
    builder = animated_box()
    sampler = builder.document["animations"][0]["samplers"][0]
    builder.document["accessors"][sampler["input"]]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": builder.view(b"\x01"), "componentType": 5121},
        "values": {"bufferView": builder.view(struct.pack("<f", 9))},
    }
    assert refusal(builder.glb(), tmp_path).reason is Reason.unordered_keyframes


def test_interleaved_vertices_are_read_apart(tmp_path):
    builder = animated_box()
    accessor = builder.document["accessors"][0]
    old = builder.document["bufferViews"][accessor["bufferView"]]
    start = old["byteOffset"]
    positions = np.frombuffer(builder.binary[start : start + 288], "<f4").reshape(24, 3)
    padding = np.full((24, 1), np.nan, "<f4")  # between the vertices, where nothing may look
    view = builder.view(np.concatenate([positions, padding], axis=1).tobytes())
    builder.document["bufferViews"][view]["byteStride"] = 16
    accessor["bufferView"] = view
    assert inspect_glb(builder.glb(), tmp_path).triangles == 24
    accessor["byteOffset"] = 4
    assert refusal(builder.glb(), tmp_path).reason is Reason.not_finite


@pytest.mark.parametrize("uri", ["../box.bin", "/etc/passwd", "%2e%2e/box.bin", "a\\..\\b", "C:/b"])
def test_buffers_and_images_outside_the_folder_are_refused(tmp_path, uri):
    path = write_animated_box_gltf(tmp_path / "in", texture=png())
    (tmp_path / "box.bin").write_bytes((tmp_path / "in" / "box.bin").read_bytes())
    for table in ("buffers", "images"):
        document = json.loads(path.read_text())
        document[table][0]["uri"] = uri
        changed = path.with_name(f"{table}.gltf")
        changed.write_text(json.dumps(document))
        with pytest.raises(AssetError, match="not in its own folder") as caught:
            inspect_file(changed)
        assert caught.value.reason is Reason.outside_folder


@pytest.mark.parametrize("uri", ["absent.bin", "https://example.org/box.bin", "\0", "x" * 5000, ""])
def test_a_missing_buffer_is_refused(tmp_path, uri):
    path = write_animated_box_gltf(tmp_path)
    document = json.loads(path.read_text())
    document["buffers"][0]["uri"] = uri
    path.write_text(json.dumps(document))
    with pytest.raises(AssetError) as caught:
        inspect_file(path)
    assert caught.value.reason is Reason.missing_buffer


def test_a_buffer_that_is_too_short_or_too_long_is_refused(tmp_path):
    path = write_animated_box_gltf(tmp_path)
    buffer = tmp_path / "box.bin"
    whole = buffer.read_bytes()
    size = path.stat().st_size
    assert inspect_file(path, Limits(file_bytes=size + len(whole))).triangles == 24
    with pytest.raises(AssetError) as caught:
        inspect_file(path, Limits(file_bytes=size + len(whole) - 1))
    assert caught.value.reason is Reason.too_large
    for data in (whole[:-1], b""):
        buffer.write_bytes(data)
        with pytest.raises(AssetError) as caught:
            inspect_file(path)
        assert caught.value.reason is Reason.truncated


def test_a_percent_encoded_name_is_found(tmp_path):
    path = write_animated_box_gltf(tmp_path, name="a box", texture=png())
    path.write_text(path.read_text().replace("a box.", "a%20box."))
    assert inspect_file(path).warnings == ()


def test_a_file_or_document_above_its_limit_is_refused(tmp_path):
    assert refusal(BOX, tmp_path, Limits(file_bytes=len(BOX) - 1)).reason is Reason.too_large
    assert refusal(BOX, tmp_path, Limits(document_bytes=100)).reason is Reason.too_large


def test_missing_and_unreadable_textures_are_reported(tmp_path):
    path = write_animated_box_gltf(tmp_path, texture=png())
    image = tmp_path / "textures" / "box.png"
    for broken in (b"not an image", png()[:20], b"\xff\xd8\xff", b"RIFF....WEBPVP8 ", b""):
        image.write_bytes(broken)
        assert inspect_file(path).missing_textures == ("textures/box.png",)
    image.unlink()
    found = inspect_file(path)
    assert found.missing_textures == ("textures/box.png",)
    assert "textures/box.png" in found.warnings[0]
    assert found.triangles == 24


def test_a_small_file_that_declares_a_huge_image_is_refused(tmp_path):
    data = animated_box_glb(texture=png_header(60_000, 60_000))
    assert len(data) < 10_000
    error = refusal(data, tmp_path)
    assert error.reason is Reason.image_too_large
    assert "60000×60000" in error.sentence


def test_many_images_are_refused_together(tmp_path):
    data = animated_box_glb(texture=png_header(100, 100))
    limits = Limits(image_pixels=10_000, all_image_pixels=30_000)
    three, four = (
        edited(
            data,
            lambda document, count=count: set_in(document, "images", document["images"] * count),
        )
        for count in (3, 4)
    )
    inspect_glb(three, tmp_path, limits)
    assert refusal(four, tmp_path, limits).reason is Reason.image_too_large


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "P", {"interlace": 1}),
        ("JPEG", "RGB", {}),
        (
            "JPEG",
            "L",
            {"progressive": True, "comment": b"\xff" * 999, "icc_profile": b"i" * 70_000},
        ),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"exif": b"Exif\0\0"}),
    ],
)
def test_sizes_are_read_from_the_formats_of_gltf(tmp_path, format, mode, options):
    path = write_animated_box_gltf(tmp_path, texture=png())
    texture = tmp_path / "textures" / "box.png"
    Image.new(mode, (70, 50)).save(texture, format=format, **options)
    assert inspect_file(path, Limits(image_pixels=3500)).warnings == ()
    with pytest.raises(AssetError, match="70×50"):
        inspect_file(path, Limits(image_pixels=3499))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.fbx", b"Kaydara FBX Binary  \0\x1a\0", None),
        ("a.fbx", b"; FBX 7.3.0 project file\nFBXHeaderExtension:  {\n", None),
        ("a.fbx", b"Kaydara", Reason.wrong_format),
        ("a.abc", b"Ogawa\xff\0\x01", None),
        ("a.abc", b"\x89HDF\r\n\x1a\n", Reason.unsupported),
        ("a.abc", b"X:1\nT:A tune\n", Reason.wrong_format),
        ("a.usda", b"#usda 1.0\n", None),
        ("a.usdc", b"PXR-USDC", None),
        ("a.usd", b"#usda 1.0\n", None),
        ("a.usd", b"PXR-USDC", None),
        ("a.usda", b"PXR-USDC", Reason.wrong_format),
        ("a.usdc", b"#usda 1.0\n", Reason.wrong_format),
        ("a.usdz", b"PK\x03\x04 and no more", Reason.malformed),
        ("a.usdc", b"", Reason.empty),
    ],
)
def test_other_formats_are_recognized_by_signature(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    if reason is None:
        assert inspect_file(tmp_path / name) == Inspection(None, None)
        return
    with pytest.raises(AssetError) as caught:
        inspect_file(tmp_path / name)
    assert caught.value.reason is reason


def usdz(path: Path, method: int = zipfile.ZIP_STORED, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return path


def test_usdz_archives_are_inspected(tmp_path):
    assert inspect_file(usdz(tmp_path / "a.usdz", a_usda=b"#usda 1.0", b_png=png())) == Inspection()
    for archive, reason in (
        (usdz(tmp_path / "b.usdz", b_png=png(), a_usda=b"#usda 1.0"), Reason.malformed),
        (usdz(tmp_path / "c.usdz", zipfile.ZIP_DEFLATED, a_usda=bytes(10**6)), Reason.malformed),
        (
            usdz(tmp_path / "d.usdz", a_usda=b"#usda 1.0", b_png=png_header(2**16, 2**16)),
            Reason.image_too_large,
        ),
    ):
        with pytest.raises(AssetError) as caught:
            inspect_file(archive)
        assert caught.value.reason is reason


def test_a_usd_archive_that_declares_more_than_it_has_is_refused(tmp_path):
    path = usdz(tmp_path / "a.usdz", a_usda=b"#usda 1.0")
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")  # the directory, which readers believe
    data[start + 20 : start + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    with pytest.raises(AssetError, match="2,147,483,648") as caught:
        inspect_file(path)
    assert caught.value.reason is Reason.malformed


def test_an_obj_sequence_has_no_empty_file_and_a_limit(tmp_path):
    folder = write_obj_sequence(tmp_path / "walk")
    assert inspect_file(folder) == Inspection(None, None)
    with pytest.raises(AssetError) as caught:
        inspect_file(folder, Limits(file_bytes=500))
    assert caught.value.reason is Reason.too_large
    (folder / "box_0002.obj").write_bytes(b"")
    with pytest.raises(AssetError, match=r"box_0002\.obj is empty"):
        inspect_file(folder)


BROKEN_VALUES = (None, -1, 0, 1, 3, 10**9, 10**30, 1.5, 1e308, True, "", "x" * 3, [], [0], {}, [{}])


def places(value: Any) -> list[tuple[Any, Any]]:
    """All pairs of a container in a document and one of its keys."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


def passes_or_is_refused(data: bytes, folder: Path) -> bool:
    try:
        inspect_glb(data, folder)
    except AssetError:
        return False
    return True


@pytest.mark.parametrize("data", [BOX, skinned_box_glb(), morphing_box_glb(), sparse_box(1, 2.0)])
def test_any_changed_value_of_a_document_passes_or_is_refused(tmp_path, data):
    chance = random.Random(7)

    def change(document: Document) -> None:
        for _ in range(chance.choice((1, 1, 1, 4))):
            container, key = chance.choice(places(document))
            if chance.random() < 0.2:
                del container[key]
            else:
                container[key] = chance.choice(BROKEN_VALUES)

    outcomes = [passes_or_is_refused(edited(data, change), tmp_path) for _ in range(150)]
    assert 0 < sum(outcomes) < len(outcomes)


def test_any_changed_byte_of_a_file_passes_or_is_refused(tmp_path):
    chance = random.Random(11)
    for _ in range(300):
        data = bytearray(BOX)
        for _ in range(chance.choice((1, 4, 32))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        passes_or_is_refused(bytes(data), tmp_path)


def test_any_changed_byte_of_an_archive_passes_or_is_refused(tmp_path):
    whole = usdz(tmp_path / "a.usdz", a_usda=b"#usda 1.0", b_png=png()).read_bytes()
    chance = random.Random(13)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "a.usdz").write_bytes(data)
        with suppress(AssetError):
            inspect_file(tmp_path / "a.usdz")


def test_any_part_of_a_file_is_refused(tmp_path):
    for length in range(0, len(BOX), 37):
        assert not passes_or_is_refused(BOX[:length], tmp_path)


def test_an_accessor_of_no_elements_is_read(tmp_path):
    builder = animated_box()
    for accessor in builder.document["accessors"]:
        accessor["count"] = 0
    assert refusal(builder.glb(), tmp_path).reason is Reason.no_triangles
