"""Diffusion as pure functions: noise levels, the preconditioned denoiser, guidance, Euler's method.

schedule   the noise levels of a run
denoiser   from a network's prediction to a denoised latent
guidance   how strongly each frame follows its conditioning
sampler    from noise to latents
"""
