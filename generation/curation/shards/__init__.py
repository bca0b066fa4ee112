"""Grids as shards for training: tar files that WebDataset reads, with an index for seeking.

shard_format    what is in the files
packed_images   images made smaller and encoded
shard_files     written in order, read at any place
packing         the grids of a folder to shards
"""
