"""Reading and writing of all image, GIF and video files, without torch."""

from recon.media.image_folders import (
    by_numbers,
    frame_files,
    grid_json,
    has_frames,
    read_frame_files,
)
from recon.media.images import (
    IMAGE_SUFFIXES,
    MAX_SIDE,
    decode_image,
    encode_image,
    image_size,
    read_image,
    read_png,
    read_shown_image,
    shown_size,
    write_png,
)
from recon.media.tiling import in_rows, thumbnail, tile_images
from recon.media.video_writing import GIF_MAX_FPS, write_gif, write_video
from recon.media.videos import (
    MAX_VIDEO_BYTES,
    Video,
    playback_rate,
    read_video,
    read_video_frames,
    read_video_times,
    stream_video_frames,
)

__all__ = [
    "GIF_MAX_FPS",
    "IMAGE_SUFFIXES",
    "MAX_SIDE",
    "MAX_VIDEO_BYTES",
    "Video",
    "by_numbers",
    "decode_image",
    "encode_image",
    "frame_files",
    "grid_json",
    "has_frames",
    "image_size",
    "in_rows",
    "playback_rate",
    "read_frame_files",
    "read_image",
    "read_png",
    "read_shown_image",
    "read_video",
    "read_video_frames",
    "read_video_times",
    "shown_size",
    "stream_video_frames",
    "thumbnail",
    "tile_images",
    "write_gif",
    "write_png",
    "write_video",
]
