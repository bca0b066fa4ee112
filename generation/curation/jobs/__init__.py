"""One function over many tasks: processes of this machine, or a Ray cluster.

    interface        what an executor promises
    jobs             a task on its way to a worker and back
    process_pool     processes of this machine
    worker           what such a process does
    ray_cluster      machines of a cluster
    ray_connection   the way to them

What it does not know: what the function does.
"""

from __future__ import annotations

from generation.curation.jobs.executor import Completed, Executor, Resources
from generation.curation.jobs.process_pool import ProcessPool
from generation.curation.jobs.ray_cluster import RayCluster

__all__ = ["Completed", "Executor", "ProcessPool", "RayCluster", "Resources", "make_executor"]


def make_executor(ray: str | None, workers: int, resources: Resources) -> Executor:
    """The executor that was asked for.

    Args:
        ray: address of a Ray cluster ("local" starts one on this machine), or None for processes of
            this machine.
        workers: how many tasks run at once without Ray; with Ray the cluster's size decides.
        resources: what one task needs; without Ray they are not counted.
    """
    return ProcessPool(workers) if ray is None else RayCluster(ray, resources)
