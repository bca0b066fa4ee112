"""The method `fourdvd` and the dataparser `fourdvd-grid` of nerfstudio.

    grid ─▶ dataparser ─▶ datamanager ─▶ model ─▶ loss ─▶ trainer ─▶ nerfstudio_models/*.ckpt
                          (the views     (one `recon.fitting.fit.Fit`)  scene/
                           of a step)

nerfstudio finds both through the entry points in pyproject.toml. Only `plugin` may be imported
without nerfstudio. A run folder has the state of the fit in nerfstudio's checkpoint, and beside it
`scene/`, a scene folder like any other.
"""
