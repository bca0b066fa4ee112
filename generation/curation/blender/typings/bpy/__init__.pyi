"""Blender's module is compiled and brings no types: whatever is in it is taken as it comes."""

from typing import Any

def __getattr__(name: str) -> Any: ...
