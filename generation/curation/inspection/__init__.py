"""What is refused before an importer opens it: a bad asset costs milliseconds and no memory.

inspecting        one asset of any format
findings          reasons, limits, and what is known of a sound asset
file_signatures   FBX, Alembic, USD and OBJ: whether they are what they say
gltf_inspection   glTF and GLB, with the modules below
gltf_files        the document and its buffers, inside the asset's folder
gltf_document     typed looks into JSON that may hold anything
gltf_accessors    arrays, in bounds
gltf_geometry     triangles, as often as nodes show them
gltf_animations   keyframes
gltf_images       embedded and external images
image_headers     sizes of images without decoding them
"""

from generation.curation.inspection.findings import AssetError, Inspection, Limits, Reason
from generation.curation.inspection.inspecting import inspect

__all__ = ["AssetError", "Inspection", "Limits", "Reason", "inspect"]
