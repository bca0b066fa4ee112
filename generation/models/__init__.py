"""The networks: SV3D's and SV4D's UNets, the image autoencoder, and the CLIP image tower.

embedding     numbers as sinusoids, and the MLPs behind them
attention     attention along one axis; to a single key it is a linear map
feed_forward  GEGLU, in pieces where memory is short
transformer   the blocks between norm and norm, in space and along a sequence
residual      convolutions in space, then along the frames
unet          the skeleton that both networks share
sv3d, sv4d    what makes them different: how frames see each other
vae           image ↔ latent
clip          image → one token

Parameters bear the names of the published files, so a state dict is a published file's part.
Letters: b batch, T times, V views, F = T·V frames of one network call, N = b·F, C channels, h × w
latent pixels. Features are [N, C, h, w] in channels-last memory; that is [N, h·w, C] of tokens
without a copy, and every axis that attention or convolution runs along is a view of it.
"""
