"""Reading and writing of all image, GIF and video files, without torch."""

from recon.media.images import (
    MAX_SIDE,
    decode_image,
    encode_image,
    image_size,
    read_image,
    read_png,
    write_png,
)
from recon.media.tiling import in_rows, thumbnail, tile_images
from recon.media.videos import (
    MAX_VIDEO_BYTES,
    Video,
    read_video,
    read_video_frames,
    read_video_times,
    write_gif,
    write_video,
)

__all__ = [
    "MAX_SIDE",
    "MAX_VIDEO_BYTES",
    "Video",
    "decode_image",
    "encode_image",
    "image_size",
    "in_rows",
    "read_image",
    "read_png",
    "read_video",
    "read_video_frames",
    "read_video_times",
    "thumbnail",
    "tile_images",
    "write_gif",
    "write_png",
    "write_video",
]
