"""Training of the cascade's networks, one stage at a time; `stages.train_stage` is the entry.

    shards ─▶ dataset, clip_sampling, batches ─▶ stage: conditioning, loss ─▶ optimization

`engine` is the loop over optimizer steps, and `run_folder` holds what it writes.
"""
