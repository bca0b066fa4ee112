"""`generation` as the command line runs it: weights found, progress shown, stoppable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourdvd_cli import console, interrupts
from recon.devices import resolve_network_device
from recon.errors import WeightsError

if TYPE_CHECKING:
    from generation.clip.preparing import ClipOptions, PreparedClip
    from generation.presets import Plan
    from generation.progress import Progress
    from generation.settings import GenerateSettings
    from recon.grid import Grid

GIB = 2**30


@dataclass
class Generation:
    """One video on its way to a grid.

    Attributes:
        video: video, GIF or folder of frames.
        folder: of the grid.
        clip_options: which frames, and how they are cut.
        settings: what to make of them; its device may be "auto".
        weights_folder: looked through first, or None.
        overwrite: whether what is in the folder may be replaced.
        quiet: show no progress.
    """

    video: Path
    folder: Path
    clip_options: ClipOptions
    settings: GenerateSettings
    weights_folder: Path | None = None
    overwrite: bool = False
    quiet: bool = False

    @cached_property
    def clip(self) -> PreparedClip:
        """The prepared input; what is odd about it is said once.

        Raises:
            InputError: it cannot be used.
        """
        from generation.clip.preparing import prepare_clip
        from generation.settings import check_size

        check_size(self.clip_options.size)
        clip = prepare_clip(self.video, self.clip_options)
        for warning in clip.warnings:
            console.say(f"warning: {warning}")
        return clip

    @cached_property
    def plan(self) -> Plan:
        """What will be done."""
        from generation.presets import make_plan

        return make_plan(self.settings, len(self.clip.images))

    def find_weights(self) -> dict[str, Path]:
        """Files of the models that are needed, by name; raises WeightsError if one is missing."""
        from generation.weights.store import find_model

        self.find_trained()  # first: they take days to make, the others minutes to fetch
        return {name: find_model(name, self.weights_folder) for name in self.plan.models}

    def find_trained(self) -> dict[str, Path]:
        """The cascade's own files; raises WeightsError as `find_weights`."""
        from generation.weights.store import find_cascade_file

        return {
            name: find_cascade_file(name, self.plan.preset.model, self.weights_folder)
            for name in self.plan.cascade_files
        }

    def run(self) -> dict[str, Any]:
        """Makes the grid folder, and stops with the finished passes saved when asked to.

        Returns:
            What `generate.json` holds.

        Raises:
            FourdvdError: as `generation.pipeline.generate`, and what finds weights and devices.
        """
        with interrupts.stop_request() as should_stop:  # before the imports, which take seconds
            from generation.checkpoint import check_folder
            from generation.pipeline import generate
            from generation.weights.model_weights import open_models

            check_folder(self.folder, self.overwrite)
            device = resolve_network_device(self.settings.device)
            settings = replace(self.settings, device=device)
            self.find_trained()
            weights = open_models(self.plan.models, self.weights_folder)
            if not self.quiet:
                self._warn_of_cost(settings)
            with console.progress("generating", self.quiet) as report:
                made = generate(
                    self.clip,
                    self.folder,
                    settings,
                    weights,
                    trained=self.find_trained(),
                    overwrite=self.overwrite,
                    on_step=lambda step: report(step.step, step.steps, describe(step)),
                    should_stop=should_stop,
                )
        console.say(f"wrote {self.folder}: {describe_grid(made.grid)}")
        return made.report

    def dry_run(self) -> dict[str, Any]:
        """Does everything before the networks and tells what they would take.

        Leaves the prepared input in the folder's `unfinished/input`, to be looked at.

        Returns:
            Facts, as `--json` prints them.
        """
        from generation.checkpoint import check_folder, write_input

        check_folder(self.folder, self.overwrite)
        device = resolve_network_device(self.settings.device)
        settings = replace(self.settings, device=device)
        clip, plan = self.clip, self.plan
        folder = write_input(self.folder, clip)
        found = self._files_that_are_here()
        costs = {}
        for name in dict.fromkeys((device, "cuda")):
            costs[name] = self._estimate(replace(settings, device=name))
        return {
            "model": settings.model.replace("_", "-"),
            "frames": len(clip.images),
            "source_frames": list(clip.source_frames),
            "fps": clip.fps,
            "size": clip.images.shape[1],
            "crop": clip.crop._asdict(),
            "alpha_known": clip.alpha_known,
            "warnings": list(clip.warnings),
            "preview": str(folder / "preview.png"),
            "views": 1 + len(plan.azimuths_deg),
            "azimuths_deg": [0.0, *plan.azimuths_deg],
            "elevation_deg": plan.elevation_deg,
            "grids": plan.stage_sizes(clip.images.shape[1]),
            "passes": [each.name for each in plan.windows],
            "steps": plan.total_steps,
            "device": device,
            "estimate": costs,
            "weights": {name: None if path is None else str(path) for name, path in found.items()},
            "missing_weights": [name for name, path in found.items() if path is None],
        }

    def _files_that_are_here(self) -> dict[str, Path | None]:
        """All files that are needed, by the name of the model or their own; None: not here."""
        from generation.weights.store import find_cascade_file, find_model

        def here(find: Callable[[], Path]) -> Path | None:
            try:
                return find()
            except WeightsError:
                return None

        plan, folder = self.plan, self.weights_folder
        found = {
            name.replace("_8views", "-8views"): here(partial(find_model, name, folder))
            for name in plan.models
        }
        return found | {
            name: here(partial(find_cascade_file, name, plan.preset.model, folder))
            for name in plan.cascade_files
        }

    def _estimate(self, settings: GenerateSettings) -> dict[str, Any]:
        """What it would take on the device of the settings; no seconds for one that is not here."""
        import torch

        from generation.cost import estimate, measured_rate
        from generation.weights.model_weights import find_architecture

        here = settings.device == "cpu" or torch.cuda.is_available()
        rate = measured_rate(settings.device) if here else float("nan")
        size, frames = self.clip.images.shape[1], len(self.clip.images)
        architectures = {
            name: find_architecture(name, self.weights_folder) for name in self.plan.models
        }
        found = estimate(self.plan, settings, size, frames, rate, architectures)
        return {
            "memory_bytes": found.device_memory_bytes,
            "disk_bytes": found.disk_bytes,
            "flops": found.flops,
            "seconds": found.seconds if here else None,
        }

    def _warn_of_cost(self, settings: GenerateSettings) -> None:
        """Says what it takes, and what to do where the device has less memory."""
        import torch

        cost = self._estimate(settings)
        console.say(
            f"about {_duration(cost['seconds'])} and {_memory(cost['memory_bytes'])} on "
            f"{settings.device}"
        )
        if settings.device == "cuda" and cost["memory_bytes"] > torch.cuda.mem_get_info()[0]:
            free = torch.cuda.mem_get_info()[0] / GIB
            advice = "a smaller --size" if settings.low_memory else "--low-memory"
            console.say(f"warning: only {free:.0f} GiB of it are free; try {advice}")


def describe(step: Progress) -> str:
    """The numbers that matter about a generation that goes on."""
    return f"{step.stage} · {_duration(step.seconds_left)} left"


def describe_grid(grid: Grid) -> str:
    """What was made."""
    return f"{grid.V} views of {grid.T} frames of {grid.width}×{grid.height}"


def dry_run_lines(report: dict[str, Any]) -> list[str]:
    """What a dry run found, for people."""
    crop = report["crop"]
    row, column = crop["centres"][0]
    mask = "alpha of the input" if report["alpha_known"] else "from the white background"
    lines = [
        f"model      {report['model']}: {report['views']} views "
        f"({', '.join(f'{azimuth:g}°' for azimuth in report['azimuths_deg'])})",
        f"frames     {report['frames']} of {report['size']}², {report['fps']:.3g} a second "
        f"(source frames {_ranges(report['source_frames'])})",
        f"crop       {crop['side']} px about column {column:.0f}, row {row:.0f}",
        f"mask       {mask}; look at {report['preview']}",
        f"steps      {report['steps']} in {len(report['passes'])} passes",
    ]
    if len(report["grids"]) > 1 or report["grids"] != [report["size"]]:
        grids = " and of ".join(f"{side}²" for side in report["grids"])
        lines[-1] += f" of each grid, of {grids}"
    for device, cost in report["estimate"].items():
        seconds = cost["seconds"]
        time = "time unknown here" if seconds is None else f"about {_duration(seconds)}"
        lines.append(f"{device:10} {_memory(cost['memory_bytes'])}, {_work(cost['flops'])}, {time}")
    disk = next(iter(report["estimate"].values()))["disk_bytes"]
    lines.append(f"disk       {disk / 1e6:.0f} MB")
    for name, path in report["weights"].items():
        lines.append(f"weights    {name}: {'missing' if path is None else path}")
    return lines


def _ranges(numbers: list[int]) -> str:
    return f"{numbers[0]}–{numbers[-1]}"


def _memory(count: int) -> str:
    return f"{count / 2**20:.0f} MiB" if count < GIB else f"{count / GIB:.1f} GiB"


def _work(flops: int) -> str:
    return f"{flops / 1e12:.2g} TFLOP" if flops < 1e14 else f"{flops / 1e15:.1f} PFLOP"


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return "?"
    if seconds < 60:
        return f"{round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{rest:02d} min"
