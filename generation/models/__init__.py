"""The networks: SV3D's and SV4D's UNets, autoencoders, image encoders, and the cascade's additions.

Parameters are named as in the published files, so that a state dict is a part of a published file.
Letters: b batch, T times, V views, F = T·V frames of one network call, N = b·F, C channels, h × w
latent pixels. Features are [N, C, h, w] in channels-last memory; that is [N, h·w, C] of tokens
without a copy, and every axis that attention or convolution runs along is a view of it.
"""
