"""Grids as shards for training: WebDataset tar files with an index for random access.

shard_format    format of the files
packed_images   downsampling and encoding of images
shard_files     sequential writing, random-access reading
pack_settings   sizes, codec and shard size
packing         packing of the grids of a folder
"""
