"""Grids as shards for training: WebDataset tar files with an index for random access.

shard_format    what the files contain
packed_images   downsampling and encoding of images
shard_files     sequential writing, random-access reading
pack_settings   sizes, codec and shard size
packing         the grids of a folder to shards
"""
