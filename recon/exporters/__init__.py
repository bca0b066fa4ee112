"""Scenes as files of other programs.

One module for each format, one table by name. An exporter takes `(scene, times, options)` and
yields the name and the bytes of one file after another; `recon.exporters.folder.export` puts
them on disk and `recon.exporters.verification.verify_export` reads them back and looks at them.
"""

exporters = {
    "ply": "recon.exporters.ply:ply_files",
    "glb": "recon.exporters.glb_mesh:glb_files",
    "glb-splats": "recon.exporters.glb_splats:glb_splat_files",
    "splat": "recon.exporters.splat:splat_files",
}
