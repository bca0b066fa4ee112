"""An FBX file in ASCII, made from nothing: two tetrahedra and animations of their translations.

FBX keeps an animation in a stack, whose layer has a curve node for each animated property, which
has a curve for each axis. The axes are those of Blender.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Points = Sequence[Sequence[float]]

_TICKS = 46186158000  # of a second
_HEAD = """; FBX 7.4.0 project file
FBXHeaderExtension: {
  FBXHeaderVersion: 1003
  FBXVersion: 7400
}
GlobalSettings: {
  Properties70: {
    P: "UpAxis", "int", "Integer", "",2
    P: "FrontAxis", "int", "Integer", "",1
    P: "FrontAxisSign", "int", "Integer", "",-1
    P: "CoordAxis", "int", "Integer", "",0
    P: "UnitScaleFactor", "double", "Number", "",100
  }
}
"""


def tetrahedra_fbx(
    places: Mapping[str, Sequence[float]], animations: Mapping[str, tuple[str, Points]]
) -> str:
    """Return an FBX file of tetrahedra, whose corners are the origin and the three unit vectors.

    Args:
        places: translation of each tetrahedron, by name.
        animations: the tetrahedron that an animation moves, and where, over one second.
    """
    models = {name: 1000 * (i + 1) for i, name in enumerate(places)}
    objects, connections = [], []
    for name, index in models.items():
        objects.append(_tetrahedron(name, index, places[name]))
        connections += [f'"OO",{index + 1},{index}', f'"OO",{index},0']
    for i, (name, (model, points)) in enumerate(animations.items()):
        index = 1_000_000 + 1000 * i
        objects.append(_animation(name, index, points))
        connections += _animation_connections(index, models[model])
    joined = "\n".join(f"  C: {connection}" for connection in connections)
    return f"{_HEAD}Objects: {{\n{''.join(objects)}}}\nConnections: {{\n{joined}\n}}\n"


def _tetrahedron(name: str, index: int, place: Sequence[float]) -> str:
    return f"""  Model: {index}, "Model::{name}", "Mesh" {{
    Version: 232
    Properties70: {{
      P: "Lcl Translation", "Lcl Translation", "", "A",{_numbers(place)}
    }}
  }}
  Geometry: {index + 1}, "Geometry::{name}", "Mesh" {{
    Vertices: *12 {{ a: 0,0,0,1,0,0,0,1,0,0,0,1 }}
    PolygonVertexIndex: *12 {{ a: 0,2,-2,0,1,-4,0,3,-3,1,2,-4 }}
  }}
"""


def _animation(name: str, index: int, points: Points) -> str:
    ticks = [_TICKS * i // (len(points) - 1) for i in range(len(points))]
    head = f"""  AnimationStack: {index}, "AnimStack::{name}", "" {{
    Properties70: {{
      P: "LocalStop", "KTime", "Time", "",{ticks[-1]}
    }}
  }}
  AnimationLayer: {index + 1}, "AnimLayer::{name}", "" {{
  }}
  AnimationCurveNode: {index + 2}, "AnimCurveNode::T", "" {{
  }}
"""
    return head + "".join(_curves(index + 3, ticks, points))


def _curves(index: int, ticks: Sequence[int], points: Points) -> Iterator[str]:
    for axis in range(3):
        yield f"""  AnimationCurve: {index + axis}, "AnimCurve::", "" {{
    KeyTime: *{len(ticks)} {{ a: {_numbers(ticks)} }}
    KeyValueFloat: *{len(ticks)} {{ a: {_numbers([point[axis] for point in points])} }}
    KeyAttrFlags: *1 {{ a: 4 }}
    KeyAttrDataFloat: *4 {{ a: 0,0,0,0 }}
    KeyAttrRefCount: *1 {{ a: {len(ticks)} }}
  }}
"""


def _animation_connections(index: int, model: int) -> list[str]:
    curves = [f'"OP",{index + 3 + i},{index + 2}, "d|{axis}"' for i, axis in enumerate("XYZ")]
    return [
        f'"OO",{index + 1},{index}',
        f'"OO",{index + 2},{index + 1}',
        f'"OP",{index + 2},{model}, "Lcl Translation"',
        *curves,
    ]


def _numbers(values: Sequence[float]) -> str:
    return ",".join(str(value) for value in values)
