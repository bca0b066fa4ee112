"""Exports of a scene to the file formats of other programs.

One module per format, found by name in `exporters`. An exporter takes `(scene, times, options)` and
yields the name and content of one file after another; `recon.export` writes them to disk and
`verify_export` reads them back and compares renderings. Those of `MESHES`, which take long for one
file, also take `on_step`.
"""

MESHES = ("glb", "usd")

exporters = {
    "ply": "recon.exporters.ply:ply_files",
    "glb": "recon.exporters.glb_mesh:glb_files",
    "glb-splats": "recon.exporters.glb_splats:glb_splat_files",
    "splat": "recon.exporters.splat:splat_files",
    "html": "recon.exporters.html:html_files",
    "zip": "recon.exporters.ply_zip:zip_files",
    "spz": "recon.exporters.gaussforge_files:spz_files",
    "sog": "recon.exporters.gaussforge_files:sog_files",
    "compressed-ply": "recon.exporters.gaussforge_files:compressed_ply_files",
    "usd": "recon.exporters.usd:usd_files",
    "4dgs": "recon.exporters.fourdgs_file:fourdgs_files",
    "splat4d": "recon.exporters.splat4d:splat4d_files",
}
