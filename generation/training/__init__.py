"""Training of the cascade's networks, one stage at a time; `stages.train_stage` is the entry.

shards ─▶ dataset, sampling, batches ─▶ stage: conditioning, loss ─▶ engine, optimization
└─▶ run_folder
"""
