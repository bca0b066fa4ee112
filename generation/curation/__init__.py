"""Training data: animated assets rendered to grids, filtered, and packed into shards.

    assets, figures ──rendering──▶ grids ──filters──▶ kept grids ──packing──▶ shards

asset_files        which files are assets
asset_origins      where each came from and under which licence
objaverse          animated objects of Objaverse: selection, licences, download
inspection         what is refused before an importer opens it
blender            what runs inside Blender: import, motion, normalisation, Cycles
blender_process    one Blender for each asset, with a time limit
baked_asset        an asset after import: the triangles of each frame, with their surfaces
light              the light of all pictures
procedural         figures by lot in the place of assets
fast_renderer      small pictures of a baked asset without Blender
render_settings    what decides the pictures of an asset
rendering          one asset to one grid folder
grid_folder        what such a folder holds
execution          many of them: a process pool, or a Ray cluster
manifest           one row for each asset: what came of it
filters            image quality, motion, completeness, duplicates
shards             grids to shards; `generation.training` reads them
"""
