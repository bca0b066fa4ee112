"""The method `fourdvd` of nerfstudio, assembled."""
# pyright: reportMissingImports=false

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from recon.nerfstudio.datamanager import GridDataManagerConfig
from recon.nerfstudio.model import FourdvdModelConfig
from recon.nerfstudio.trainer import FourdvdTrainerConfig

specification = MethodSpecification(
    config=FourdvdTrainerConfig(
        method_name="fourdvd",
        steps_per_save=500,
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=10**9,  # ns-eval does it
        pipeline=VanillaPipelineConfig(
            datamanager=GridDataManagerConfig(), model=FourdvdModelConfig()
        ),
        optimizers={},
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
        vis="viewer",
    ),
    description="Deformable Gaussians of a moving object, on CUDA or on a CPU.",
)
