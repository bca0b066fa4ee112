"""Training of the networks, one stage of the cascade at a time.

What is read:
    dataset           samples of shards: reference video, reference views, target grid, cameras
    training_choice   which views and frames of a grid make a sample
    epoch_order       which samples come when, on which rank
    batches           batches of samples over the epochs, cut in pieces

What is trained:
    stage             what the engine asks of a network
    autoencoder       the first stage, `fourdvd train vae`
    whole_stages      `reference-views` and `base`: SV3D and SV4D from scratch
    coarse_stage      a LoRA on the base
    fine_stage        a structure branch on the base

What the last four stages share:
    diffusion_stage   loss, samples and pictures
    denoising_loss    what is minimised
    conditions        what the networks are told of a batch
    latents           the frozen autoencoder
    stage_networks    the networks of a stage in one module, and their files
    foundation        the base, our own or the published one

How:
    engine            what happens when
    settings          of a training, from TOML (`configs/`)
    optimisation      one step after another
    average           of the weights, moving
    draws             random numbers that do not depend on processes
    processes         accelerate, and tensors that are spread over processes

What is written:
    run_folder        what is where
    checkpoints       from which a training goes on
    logbook           the log
"""
