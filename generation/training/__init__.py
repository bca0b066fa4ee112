"""What training reads.

dataset           samples of shards: reference video, reference views, target grid, cameras
training_choice   which views and frames of a grid make a sample
epoch_order       which samples come when, on which rank
"""
