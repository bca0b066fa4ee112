"""Rendering of the scene from fixed cameras with Cycles.

Images have direct light only, a sun with soft shadows, no denoising and a transparent background.
Output files are `vVV/tTTT.png`, 8-bit sRGB with straight alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import bpy
from mathutils import Matrix, Vector

from generation.curation.blender.clips import PlayableClip
from generation.curation.blender.request import CyclesRequest, Rejected
from generation.curation.blender.shading import lambertian_default, make_lambertian

TRANSPARENT_LAYERS = 16


def set_up(request: CyclesRequest, threads: int) -> str:
    """Set up light, materials and render settings; return the name of the device."""
    scene = bpy.context.scene
    _light(scene, request)
    _materials(request.ambient)
    device = _device(request.device)
    render, cycles = scene.render, scene.cycles
    render.engine = "CYCLES"
    cycles.device = "CPU" if device == "CPU" else "GPU"
    cycles.samples = request.samples
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = False
    cycles.max_bounces = 0
    cycles.transparent_max_bounces = TRANSPARENT_LAYERS
    cycles.pixel_filter_type = "BLACKMAN_HARRIS"
    cycles.filter_width = 1.5
    cycles.seed = 0
    scene.view_settings.view_transform = "Standard"
    render.film_transparent = True
    render.resolution_x = render.resolution_y = request.size
    render.resolution_percentage = 100
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGBA"
    render.image_settings.color_depth = "8"
    render.use_persistent_data = True  # keeps textures and shaders between images
    render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        render.threads = threads
    return device


def draw(request: CyclesRequest, clip: PlayableClip, source_frames: Sequence[float]) -> None:
    """Render all frames from all cameras."""
    scene = bpy.context.scene
    cameras = [_camera(request, matrix) for matrix in request.cameras]
    for t, source_frame in enumerate(source_frames):
        clip.go_to(source_frame)
        for v, camera in enumerate(cameras):
            scene.camera = camera
            scene.render.filepath = str(Path(request.images) / f"v{v:02d}" / f"t{t:03d}.png")
            bpy.ops.render.render(write_still=True)


def _light(scene: bpy.types.Scene, request: CyclesRequest) -> None:
    lamp = bpy.data.lights.new("fourdvd sun", "SUN")
    lamp.energy = request.sun
    lamp.angle = math.radians(request.sun_angle_deg)
    sun = bpy.data.objects.new("fourdvd sun", lamp)
    sun.rotation_mode = "QUATERNION"
    sun.rotation_quaternion = Vector(request.sun_direction).to_track_quat("-Z", "Y")
    scene.collection.objects.link(sun)
    scene.world = bpy.data.worlds.new("fourdvd night")  # ambient light is in the materials
    scene.world.color = (0, 0, 0)
    if scene.world.node_tree is not None:
        for node in scene.world.node_tree.nodes:
            if node.type == "BACKGROUND":
                node.inputs["Strength"].default_value = 0


def _materials(ambient: float) -> None:
    default = lambertian_default()
    for thing in bpy.data.objects:
        if thing.type == "MESH":
            if not thing.material_slots:
                thing.data.materials.append(default)
            for slot in thing.material_slots:
                if slot.material is None:
                    slot.material = default
    for material in bpy.data.materials:
        if material.node_tree is None:  # Blender before 5.0: a plain color
            material.use_nodes = True
        make_lambertian(material, ambient)


def _camera(request: CyclesRequest, matrix: list[list[float]]) -> bpy.types.Object:
    lens = bpy.data.cameras.new("fourdvd camera")
    lens.sensor_fit = "HORIZONTAL"
    lens.angle = math.radians(request.fov_deg)
    camera = bpy.data.objects.new("fourdvd camera", lens)
    camera.matrix_world = Matrix(matrix)
    bpy.context.scene.collection.objects.link(camera)
    return camera


def _device(wanted: str) -> str:
    """Enable a device: OptiX, else CUDA, else the CPU; only the CPU if requested."""
    if wanted == "cpu":
        return "CPU"
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in ("OPTIX", "CUDA"):
        try:
            preferences.compute_device_type = kind
        except TypeError:  # this Blender was built without it
            continue
        preferences.get_devices()
        devices = [device for device in preferences.devices if device.type == kind]
        if devices:
            for device in preferences.devices:
                device.use = device.type == kind
            return kind
    if wanted == "cuda":
        raise Rejected(
            "no_device", "expected a CUDA or OptiX device, but Blender finds none; use the CPU"
        )
    return "CPU"
