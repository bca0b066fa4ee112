"""Training data: animated assets are rendered to grids, filtered, and packed into shards.

    assets, figures ──render──▶ grids ──filters──▶ kept grids ──shards──▶ `generation.training`

assets     asset files: search, licenses, inspection before import, Objaverse
blender    the code that runs inside Blender: import, animation, normalization, Cycles
render     one asset, or many, to grid folders; Cycles or the fast renderer
figures    procedurally generated characters, which need no files and no Blender
filters    image quality, motion, completeness, duplicates
shards     grids as WebDataset shards with a random-access index
jobs       parallel execution of one function over many tasks: process pool or Ray cluster
manifest   the status of every asset, one JSON line each
"""
