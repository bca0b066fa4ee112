"""Parallel execution of one picklable function over many tasks: process pool or Ray cluster."""

from __future__ import annotations

from generation.curation.jobs.executor import Completed, Executor, OnReport, Resources, report

__all__ = ["Completed", "Executor", "Resources", "make_executor", "report"]


def make_executor(
    ray: str | None, workers: int, resources: Resources, on_report: OnReport | None = None
) -> Executor:
    """Return a Ray cluster or a process pool.

    Args:
        ray: address of a Ray cluster ("local" starts one on this machine); None for a pool of
            processes on this machine.
        workers: number of processes of the pool; a Ray cluster uses all of its machines.
        resources: resources of one task; only Ray uses them.
        on_report: called with the index of a task and what it reports while it runs, see `report`;
            None drops the reports.
    """
    if ray is not None:
        from generation.curation.jobs.ray_cluster import RayCluster

        return RayCluster(ray, resources, on_report=on_report)
    from generation.curation.jobs.process_pool import ProcessPool

    return ProcessPool(workers, on_report=on_report)
