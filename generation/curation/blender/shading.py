"""Materials for rendering: Lambertian, with the asset's own emission and alpha.

    radiance = base · (sun/π · max(0, n·l) · visible + ambient · (0.8 + 0.2 n_z)) + emission

Specular reflection, metal, glass and bump maps are ignored, so that a surface point has the same
color in all views. For Cycles, the shader nodes are replaced; the node graphs of base color, alpha
and emission are kept. For the fast renderer, the same graphs are read as products of a factor, a
texture and corner colors (`Described`); other graphs are approximated, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import bpy

SKY, SLOPE = 0.8, 0.2  # constant part of the ambient light, and its increase with n_z


@dataclass(frozen=True)
class Product:
    """Product of a factor, a texture and corner colors.

    Attributes:
        factor: linear RGB and alpha; scalars are repeated.
        image: name of the texture image; empty without a texture.
        channel: "Color", or "Alpha" for the image's alpha channel.
        uv: name of the UV map; empty for the object's first.
        mapping: location, rotation and scale of the UV coordinates: (x, y, angle, sx, sy).
        colors: name of the color attribute; empty without corner colors.
        cutoff: threshold below which the product is 0 and above which it is 1; None without one.
        approximate: whether the graph is not exactly such a product.
    """

    factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    image: str = ""
    channel: str = ""
    uv: str = ""
    mapping: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 1.0, 1.0)
    colors: str = ""
    cutoff: float | None = None
    approximate: bool = False

    def times(self, other: Product) -> Product:
        """Multiply two products; if both have a texture, keep the first one."""
        textured = self if self.image else other
        return Product(
            factor=_four([a * b for a, b in zip(self.factor, other.factor, strict=True)]),
            image=textured.image, channel=textured.channel, uv=textured.uv,
            mapping=textured.mapping,
            colors=self.colors or other.colors,
            cutoff=self.cutoff if self.cutoff is not None else other.cutoff,
            approximate=self.approximate or other.approximate or bool(self.image and other.image),
        )  # fmt: skip


@dataclass(frozen=True)
class Described:
    """A material for the fast renderer; see `render.baked_asset.Surface`."""

    base: Product
    alpha: Product
    emission: Product
    unlit: bool
    double_sided: bool


@dataclass
class _Sockets:
    """Inputs of a material's shader that are used, for any kind of shader."""

    base: bpy.types.NodeSocket | None = None
    alpha: bpy.types.NodeSocket | None = None
    emission: bpy.types.NodeSocket | None = None
    strength: bpy.types.NodeSocket | None = None
    color: tuple[float, ...] = field(default=(0.8, 0.8, 0.8, 1.0))


def describe(material: bpy.types.Material | None) -> Described:
    """Read a material as products; must be called before `make_lambertian`."""
    sockets = _sockets(material)
    base = _product(sockets.base) if sockets.base else Product(_four(sockets.color))
    alpha = _product(sockets.alpha) if sockets.alpha else Product()
    emission = Product((0.0, 0.0, 0.0, 0.0))
    if sockets.emission:
        emission = _product(sockets.emission).times(_product(sockets.strength))
        if not any(emission.factor[:3]):
            emission = Product((0.0, 0.0, 0.0, 0.0))
    unlit = sockets.base is None and sockets.emission is not None
    return Described(base, alpha, emission, unlit, not _is_single_sided(material))


def make_lambertian(material: bpy.types.Material, ambient: float) -> None:
    """Replace a material's shader by the Lambertian shader of the module docstring."""
    tree = material.node_tree
    sockets = _sockets(material)
    build = _Builder(tree)
    parts = []
    if not (sockets.base is None and sockets.emission is not None):
        diffuse = build.node("ShaderNodeBsdfDiffuse")
        build.feed(diffuse.inputs["Color"], sockets.base, sockets.color)
        glow = build.node("ShaderNodeEmission")
        build.feed(glow.inputs["Color"], sockets.base, sockets.color)
        build.link(_ambient_strength(build, ambient), glow.inputs["Strength"])
        parts += [diffuse.outputs[0], glow.outputs[0]]
    if sockets.emission is not None:
        own = build.node("ShaderNodeEmission")
        build.feed(own.inputs["Color"], sockets.emission, (0.0, 0.0, 0.0, 1.0))
        build.feed(own.inputs["Strength"], sockets.strength, 1.0)
        parts.append(own.outputs[0])
    surface = parts[0]
    for part in parts[1:]:
        add = build.node("ShaderNodeAddShader")
        build.link(surface, add.inputs[0])
        build.link(part, add.inputs[1])
        surface = add.outputs[0]
    surface = _with_alpha(build, surface, sockets.alpha)
    if _is_single_sided(material):
        surface = _front_only(build, surface)
    build.link(surface, _output(tree).inputs["Surface"])


def lambertian_default() -> bpy.types.Material:
    """Create a gray material for objects without a material."""
    material = bpy.data.materials.new("fourdvd default")
    if material.node_tree is None:  # Blender before 5.0
        material.use_nodes = True
    return material


class _Builder:
    """Adds nodes and links to a tree."""

    def __init__(self, tree: bpy.types.NodeTree):
        self._tree = tree

    def node(self, kind: str) -> bpy.types.Node:
        return self._tree.nodes.new(kind)

    def link(self, source: bpy.types.NodeSocket, target: bpy.types.NodeSocket) -> None:
        self._tree.links.new(source, target)

    def feed(self, target: bpy.types.NodeSocket, source: bpy.types.NodeSocket | None, value):
        """Set a socket to the link or the constant of `source`, or to `value` without a source."""
        if source is None:
            target.default_value = value
        elif source.is_linked:
            self.link(source.links[0].from_socket, target)
        else:
            target.default_value = source.default_value


def _ambient_strength(build: _Builder, ambient: float) -> bpy.types.NodeSocket:
    geometry = build.node("ShaderNodeNewGeometry")
    split = build.node("ShaderNodeSeparateXYZ")
    line = build.node("ShaderNodeMath")
    line.operation = "MULTIPLY_ADD"
    build.link(geometry.outputs["Normal"], split.inputs[0])
    build.link(split.outputs[2], line.inputs[0])
    line.inputs[1].default_value = SLOPE * ambient
    line.inputs[2].default_value = SKY * ambient
    return line.outputs[0]


def _with_alpha(build: _Builder, surface, alpha: bpy.types.NodeSocket | None):
    if alpha is None or not (alpha.is_linked or alpha.default_value < 1):
        return surface
    mix = build.node("ShaderNodeMixShader")
    build.feed(mix.inputs[0], alpha, 1.0)
    build.link(build.node("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[1])
    build.link(surface, mix.inputs[2])
    return mix.outputs[0]


def _front_only(build: _Builder, surface):
    """Make the back transparent for rays from the camera, so that it still casts a shadow."""
    from_camera = build.node("ShaderNodeLightPath").outputs["Is Camera Ray"]
    back = build.node("ShaderNodeNewGeometry").outputs["Backfacing"]
    hidden = build.node("ShaderNodeMath")
    hidden.operation = "MULTIPLY"
    build.link(from_camera, hidden.inputs[0])
    build.link(back, hidden.inputs[1])
    mix = build.node("ShaderNodeMixShader")
    build.link(hidden.outputs[0], mix.inputs[0])
    build.link(surface, mix.inputs[1])
    build.link(build.node("ShaderNodeBsdfTransparent").outputs[0], mix.inputs[2])
    return mix.outputs[0]


def _is_single_sided(material: bpy.types.Material | None) -> bool:
    """Return whether only fronts are visible: glTF materials that are not `doubleSided`."""
    return material is not None and material.use_backface_culling


def _sockets(material: bpy.types.Material | None) -> _Sockets:
    if material is None or material.node_tree is None:
        return _Sockets(color=(0.8, 0.8, 0.8, 1.0) if material is None else material.diffuse_color)
    found = {node.type: node for node in _upstream(_output(material.node_tree))}
    if "BSDF_PRINCIPLED" in found:
        inputs = found["BSDF_PRINCIPLED"].inputs
        return _Sockets(
            inputs["Base Color"], inputs["Alpha"],
            inputs["Emission Color"], inputs["Emission Strength"],
        )  # fmt: skip
    if "BSDF_DIFFUSE" in found:
        return _Sockets(found["BSDF_DIFFUSE"].inputs["Color"])
    if "EMISSION" in found:  # unlit
        inputs = found["EMISSION"].inputs
        return _Sockets(None, _mix_with_transparent(material), inputs["Color"], inputs["Strength"])
    return _Sockets(color=material.diffuse_color)


def _output(tree: bpy.types.NodeTree) -> bpy.types.Node:
    outputs = [node for node in tree.nodes if node.type == "OUTPUT_MATERIAL"]
    active = [node for node in outputs if node.is_active_output]
    return (active or outputs or [tree.nodes.new("ShaderNodeOutputMaterial")])[0]


def _upstream(node: bpy.types.Node):
    """Yield a node and all nodes upstream of it, each once."""
    seen, waiting = set(), [node]
    while waiting:
        current = waiting.pop()
        if current.name in seen:
            continue
        seen.add(current.name)
        yield current
        waiting += [link.from_node for socket in current.inputs for link in socket.links]


def _mix_with_transparent(material: bpy.types.Material) -> bpy.types.NodeSocket | None:
    """Return the alpha of an unlit glTF material, the factor of its outer mix shader, if any."""
    surface = _output(material.node_tree).inputs["Surface"]
    outer = surface.links[0].from_node if surface.is_linked else None
    if outer is None or outer.type != "MIX_SHADER":
        return None
    factor = outer.inputs[0]
    driver = factor.links[0].from_node if factor.is_linked else None
    return None if driver is not None and driver.type == "LIGHT_PATH" else factor


def _product(socket: bpy.types.NodeSocket | None) -> Product:
    if socket is None:
        return Product()
    if not socket.is_linked:
        return Product(_four(socket.default_value))
    link = socket.links[0]
    node = link.from_node
    reader = _READERS.get(node.type)
    if reader is not None:
        return reader(node, link.from_socket)
    for source in node.inputs:  # approximate an unknown node by its first color input
        if source.type == "RGBA" and source.enabled:
            return replace(_product(source), approximate=True)
    return Product(approximate=True)


def _read_image(node, socket) -> Product:
    if node.image is None:
        return Product(approximate=True)
    uv, mapping, exact = _read_coordinates(node.inputs["Vector"])
    return Product(
        image=node.image.name, channel=socket.name, uv=uv, mapping=mapping, approximate=not exact
    )


def _read_coordinates(socket):
    """Return name and mapping of the UV map, and whether they represent the graph exactly."""
    mapping = Product().mapping
    if not socket.is_linked:
        return "", mapping, True
    node = socket.links[0].from_node
    if node.type == "MAPPING":
        place = node.inputs["Location"].default_value
        turned = node.inputs["Rotation"].default_value
        size = node.inputs["Scale"].default_value
        mapping = (place[0], place[1], turned[2], size[0], size[1])
        socket = node.inputs["Vector"]
        node = socket.links[0].from_node if socket.is_linked else None
    if node is None or node.type == "TEX_COORD":
        return "", mapping, node is None or socket.links[0].from_socket.name == "UV"
    if node.type == "UVMAP":
        return node.uv_map, mapping, True
    return "", mapping, False


def _read_mix(node, _socket) -> Product:
    inputs = [s for s in node.inputs if s.enabled and s.type == "RGBA"]
    blend = node.blend_type if hasattr(node, "blend_type") else "MIX"
    if blend == "MULTIPLY" and len(inputs) == 2:
        return _product(inputs[0]).times(_product(inputs[1]))
    return replace(_product(inputs[0]), approximate=True) if inputs else Product(approximate=True)


def _read_math(node, _socket) -> Product:
    first, second = node.inputs[0], node.inputs[1]
    if node.operation == "MULTIPLY":
        return _product(first).times(_product(second))
    if node.operation == "SUBTRACT" and not first.is_linked and first.default_value == 1:
        return _product(second)  # 1 − (alpha < cutoff), Blender's import of glTF's alpha mask
    if node.operation in ("LESS_THAN", "GREATER_THAN") and not second.is_linked:
        return replace(_product(first), cutoff=second.default_value)
    if node.operation == "ROUND":
        return replace(_product(first), cutoff=0.5)
    return replace(_product(first), approximate=True)


def _read_colors(node, socket) -> Product:
    name = node.layer_name if node.type == "VERTEX_COLOR" else node.attribute_name
    return Product(colors=name or "*", channel="Alpha" if socket.name == "Alpha" else "")


def _read_constant(node, _socket) -> Product:
    return Product(_four(node.outputs[0].default_value))


_READERS = {
    "TEX_IMAGE": _read_image,
    "MIX": _read_mix,
    "MIX_RGB": _read_mix,
    "MATH": _read_math,
    "VERTEX_COLOR": _read_colors,
    "ATTRIBUTE": _read_colors,
    "RGB": _read_constant,
    "VALUE": _read_constant,
}


def _four(value) -> tuple[float, float, float, float]:
    if isinstance(value, (int, float)):
        number = float(value)
        return number, number, number, number
    numbers = [float(number) for number in value] + [1.0]
    return numbers[0], numbers[1], numbers[2], numbers[3]
