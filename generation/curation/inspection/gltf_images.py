"""The images of a glTF file: which are missing, and whether their pixels fit into memory.

Only headers are read. What it does not know: which materials use an image.
"""

from __future__ import annotations

import io
from pathlib import Path

from generation.curation.inspection.findings import AssetError, Limits, Reason
from generation.curation.inspection.gltf_accessors import BufferView
from generation.curation.inspection.gltf_document import Entry
from generation.curation.inspection.gltf_files import data_uri, local_file
from generation.curation.inspection.image_headers import (
    ImageSize,
    check_image_sizes,
    read_image_size,
)


def check_images(
    document: Entry, views: list[BufferView], folder: Path, limits: Limits
) -> tuple[str, ...]:
    """What the document calls the images that are missing or cannot be read.

    Args:
        document: of the file.
        views: of its buffers.
        folder: of the file.
        limits: how many pixels there may be.

    Raises:
        AssetError: an image is too large, malformed or outside the folder.
    """
    images = document.entries("images")
    _check_embedded_bytes(images, views, limits)
    known: dict[str | int | None, ImageSize | None] = {None: None}  # many may share their bytes
    sizes = []
    for image in images:
        uri = image.text("uri")
        source = image.index("bufferView", views) if uri is None else uri
        if source not in known:
            known[source] = _image_size(source, views, folder)
        sizes.append((_name(image), known[source]))
    check_image_sizes(sizes, limits)
    return tuple(name for name, size in sizes if size is None)


def _check_embedded_bytes(images: list[Entry], views: list[BufferView], limits: Limits) -> None:
    indices = [image.index("bufferView", views) for image in images]
    size = sum(len(views[index].data) for index in indices if index is not None)
    if size > limits.file_bytes:
        raise AssetError(
            Reason.too_large,
            f"its images have {size:,} bytes together, more than {limits.file_bytes:,}",
        )


def _name(image: Entry) -> str:
    uri = image.text("uri")
    if uri is not None and not uri.startswith("data:"):
        return uri[:200]
    return image.text("name") or image.place


def _image_size(
    source: str | int | None, views: list[BufferView], folder: Path
) -> ImageSize | None:
    """Of the image in a buffer view or at a URI."""
    if not isinstance(source, str):
        data = None if source is None else views[source].data.tobytes()
    else:
        data = data_uri(source)
        path = local_file(source, folder) if data is None else None
        if path is not None:
            with path.open("rb") as file:
                return read_image_size(file)
    return None if data is None else read_image_size(io.BytesIO(data))
