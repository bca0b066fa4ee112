"""Scenes as files of other programs.

One module for each format, one table by name. An exporter takes `(scene, times, options)` and
yields the name and the bytes of one file after another; `recon.export.folder.export_scene` puts
them on disk and `recon.export.verification.verify_export` reads them back and looks at them.
"""

exporters = {
    "ply": "recon.export.ply:ply_files",
    "glb": "recon.export.glb_mesh:glb_files",
    "glb-splats": "recon.export.glb_splats:glb_splat_files",
    "splat": "recon.export.splat:splat_files",
}
