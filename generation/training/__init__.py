"""Training of the networks of the cascade and of lift; `stages.train_stage` is the entry.

    folders ─▶ data set of the stage ─▶ batches ─▶ stage: conditioning, loss ─▶ optimization

`engine` is the loop over optimizer steps, and `run_folder` holds what it writes.
"""
