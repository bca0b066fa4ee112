"""Measure how fast training samples are read from shards, by number of workers.

    python -m tests.benchmarks.dataset DIR [--workers 0 1 2] [--seconds 5] [--no-page]

`fourdvd data pack` makes DIR. Both stages of the paper are measured if the shards have what they
need: all 16 views at the low size, and 4 views at both sizes, five frames each. Images are counted
as decoded, megabytes as uint8 samples.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from generation.training.batches import EpochSampler
from generation.training.clip_sampling import COARSE, SamplingConfig
from generation.training.dataset import GridDataset, TrainingSample
from recon.errors import InputError
from tests.benchmarks import harness

STAGES = {"coarse": COARSE, "fine": SamplingConfig(views=4, sizes=("low", "high"))}
HEADER = ("stage, workers", "samples/s", "images/s", "MB/s")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.dataset")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="per number of workers")
    parser.add_argument("--batch", type=int, default=1)
    harness.add_options(parser, "dataset")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for stage, sampling in STAGES.items():
        try:
            dataset = GridDataset(options.folder, sampling)
        except InputError as error:
            print(f"{stage}: {error}")
            continue
        for workers in options.workers:
            speed = measure(dataset, sampling, workers, options.batch, options.seconds)
            rows.append([f"{stage}, {workers}", *(f"{value:.1f}" for value in speed)])
    index = f"{options.folder.name}, batches of {options.batch}"
    body = f"{harness.table(HEADER, rows)}\n\n{index}. {harness.describe_machine('cpu')}"
    harness.publish(options.section, body, options.page)


def measure(
    dataset: GridDataset, sampling: SamplingConfig, workers: int, batch: int, seconds: float
) -> tuple[float, float, float]:
    """Samples, images and megabytes per second, after a first epoch that starts the workers."""
    batch = min(batch, len(dataset))
    sampler = EpochSampler(len(dataset))
    loader = DataLoader(
        dataset, batch_size=batch, sampler=sampler, num_workers=workers,
        persistent_workers=workers > 0,
    )  # fmt: skip
    samples = images = size = 0
    for _ in loader:
        pass
    epoch, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        epoch += 1
        sampler.set_epoch(epoch)
        for each in loader:
            samples += len(each.name)
            images += sum(count_images(each, number, sampling) for number in range(len(each.name)))
            size += count_bytes(each)
    elapsed = time.perf_counter() - began
    return samples / elapsed, images / elapsed, size / elapsed / 1e6


def count_images(batch: TrainingSample, number: int, sampling: SamplingConfig) -> int:
    """Count the distinct images in one sample of a batch."""
    views, frames = batch.views[number].tolist(), batch.frames[number].tolist()
    shown = {(view, frame) for view in views for frame in frames}
    reference_views = torch.as_tensor(batch.reference_view)
    reference_frames = torch.as_tensor(batch.reference_frame)
    shown |= {(int(reference_views[number]), frame) for frame in frames}
    shown |= {(view, int(reference_frames[number])) for view in views}
    return len(shown) * len(sampling.sizes)


def count_bytes(batch: TrainingSample) -> int:
    """Bytes of all images of a batch."""
    parts = (batch.reference_video, batch.reference_views, batch.target)
    return sum(tensor.nbytes for part in parts for tensor in part.values())


if __name__ == "__main__":
    main()
