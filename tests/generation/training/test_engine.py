"""A stopped, killed or diverged training resumes exactly as an uninterrupted one."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from generation.curation.shards.packing import grid_names, pack_grids
from generation.training.config import EngineConfig
from generation.training.engine import Progress, TrainingResult, train
from generation.training.optimization import Optimization
from generation.training.run_folder import list_checkpoints, read_log
from recon.errors import (
    BackendError,
    DivergedError,
    InputError,
    Interrupted,
    OutputError,
    OutputExistsError,
)
from recon.output import sole_writer
from tests.generation.curation.shards.tiny_packs import SETTINGS as PACKING
from tests.generation.curation.shards.tiny_packs import pack
from tests.generation.training.toy_stage import SETTINGS, ToyStage


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_log(folder) if "loss" in record]


def stop_after(step: int) -> Callable[[], bool]:
    asked = iter(range(1, 10**6))
    return lambda: next(asked) == step


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = (load_file(each / "weights" / "toy.safetensors") for each in (first, second))
    return all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


def run(shards: Path, folder: Path, settings: EngineConfig = SETTINGS, **named) -> TrainingResult:
    return train(named.pop("stage", None) or ToyStage(), settings, shards, folder, **named)


def test_a_training_writes_log_images_checkpoints_and_weights(tiny_shards, tmp_path):
    steps: list[Progress] = []
    trained = run(tiny_shards, tmp_path / "out", on_step=steps.append)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "config.json", "log.jsonl", "checkpoints", "samples", "weights",
    }  # fmt: skip
    assert [path.name for path in list_checkpoints(out / "checkpoints")] == [
        "step_00000003.safetensors", "step_00000006.safetensors",
    ]  # fmt: skip
    pictures = sorted((out / "samples").iterdir())
    assert [path.name for path in pictures] == ["step_00000004.png", "step_00000006.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (6, 4)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].seconds_left == 0
    assert trained.steps == 6
    assert trained.weights == out / "weights"
    assert set(trained.scores) == {"mean"}
    log = read_log(out)
    assert [record["step"] for record in log if "mean" in record] == [4, 6]
    assert set(log[0]) == {
        "step", "loss", "error", "learning_rate", "gradient_norm", "samples_per_second", "seconds",
        "replaced",
    }  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert config["identity"]["stage"] == "base"
    assert config["engine"]["steps"] == 6


def test_the_published_weights_are_the_ema(tiny_shards, tmp_path):
    settings = replace(SETTINGS, weights_precision="float16")
    run(tiny_shards, tmp_path / "out", settings)
    newest = list_checkpoints(tmp_path / "out" / "checkpoints")[-1]
    saved = load_file(newest)
    found = load_file(tmp_path / "out" / "weights" / "toy.safetensors")
    for name in found:
        assert torch.equal(found[name], saved[f"ema/{name}"].half())
        assert not torch.equal(found[name], saved[f"weights/{name}"].half())


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_stopped_training_resumes_with_the_same_losses(tiny_shards, tmp_path, stop):
    whole = run(tiny_shards, tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"after step {stop}"):
        run(tiny_shards, tmp_path / "parts", should_stop=stop_after(stop))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")[:stop]
    parts = run(tiny_shards, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert parts.scores == whole.scores
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_killed_training_resumes_from_its_last_checkpoint(tiny_shards, tmp_path):
    def die(step: Progress) -> None:
        if step.step == 5:
            raise KeyboardInterrupt

    run(tiny_shards, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tiny_shards, tmp_path / "parts", on_step=die)
    assert len(losses(tmp_path / "parts")) == 5
    run(tiny_shards, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_training_can_be_extended(tiny_shards, tmp_path):
    run(tiny_shards, tmp_path / "whole", replace(SETTINGS, steps=9))
    run(tiny_shards, tmp_path / "parts")
    again = run(tiny_shards, tmp_path / "parts")
    assert again.scores
    assert len(read_log(tmp_path / "parts")) == 6 + 2
    run(tiny_shards, tmp_path / "parts", replace(SETTINGS, steps=9))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_checkpoints_are_saved_by_time_too(tiny_shards, tmp_path):
    settings = replace(SETTINGS, checkpoint_every=100, checkpoint_seconds=1e-9)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_shards, tmp_path / "out", settings, on_step=_interrupt_at_4)
    assert list_checkpoints(tmp_path / "out" / "checkpoints")[-1].stem == "step_00000004"


def _interrupt_at_4(step: Progress) -> None:
    if step.step == 4:
        raise KeyboardInterrupt


def test_a_training_that_diverges_keeps_its_last_checkpoint(tiny_shards, tmp_path):
    with pytest.raises(DivergedError):
        run(tiny_shards, tmp_path / "out", stage=ToyStage(diverges_at=5))
    assert [path.name for path in list_checkpoints(tmp_path / "out" / "checkpoints")] == [
        "step_00000003.safetensors"
    ]
    assert len(losses(tmp_path / "out")) == 4
    run(tiny_shards, tmp_path / "out")
    run(tiny_shards, tmp_path / "whole")
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


def test_a_process_that_steps_alone_diverges_at_the_next_communication(
    tiny_shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(Optimization, "_communicates", lambda self, step: step % 2 == 0)
    with pytest.raises(DivergedError, match="step 4"):
        run(tiny_shards, tmp_path / "out", stage=ToyStage(diverges_at=3))
    assert len(losses(tmp_path / "out")) == 2


def test_a_second_training_of_a_folder_is_refused_while_the_first_one_runs(tiny_shards, tmp_path):
    def second(step: Progress) -> None:
        with pytest.raises(OutputError, match="another process"), sole_writer(tmp_path / "out"):
            raise AssertionError

    run(tiny_shards, tmp_path / "out", on_step=second)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    before = (tmp_path / "out" / "config.json").read_bytes()
    with sole_writer(tmp_path / "out"), pytest.raises(OutputError, match="another process"):
        run(tiny_shards, tmp_path / "out", replace(SETTINGS, steps=9))
    assert (tmp_path / "out" / "config.json").read_bytes() == before


def test_another_training_in_the_folder_is_refused_with_the_differences(tiny_shards, tmp_path):
    run(tiny_shards, tmp_path / "out")
    before = (tmp_path / "out" / "log.jsonl").read_bytes()
    with pytest.raises(OutputExistsError, match=r"base\.width was 3"):
        run(tiny_shards, tmp_path / "out", stage=ToyStage(width=2))
    with pytest.raises(OutputExistsError, match="stage was 'base'"):
        run(tiny_shards, tmp_path / "out", stage=ToyStage("fine"))
    with pytest.raises(OutputExistsError, match=r"engine\.learning_rate was 0\.05"):
        run(tiny_shards, tmp_path / "out", replace(SETTINGS, learning_rate=1.0))
    assert (tmp_path / "out" / "log.jsonl").read_bytes() == before
    run(tiny_shards, tmp_path / "out", stage=ToyStage(width=2), overwrite=True)
    assert len(losses(tmp_path / "out")) == 6


def test_other_shards_are_refused(tiny_data, tiny_shards, tmp_path):
    with pytest.raises(Interrupted):
        run(tiny_shards, tmp_path / "out", should_stop=stop_after(2))
    pack_grids(tiny_data, grid_names(tiny_data)[:-1], tmp_path / "smaller", PACKING)
    with pytest.raises(InputError, match="7 samples"):
        run(tmp_path / "smaller", tmp_path / "out")


def test_a_folder_of_other_files_is_replaced_only_with_overwrite(tiny_shards, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError):
        run(tiny_shards, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").exists()
    run(tiny_shards, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "notes.txt").exists()


def test_damaged_samples_are_counted_or_end_the_training(tiny_data, tmp_path):
    pack(tiny_data, tmp_path / "shards")
    shard = tmp_path / "shards" / "shard-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) * 2 // 3])
    trained = run(tmp_path / "shards", tmp_path / "out")
    assert trained.replaced > 0
    assert read_log(tmp_path / "out")[-2]["replaced"] == trained.replaced
    with pytest.raises(InputError, match=r"grid\d\.json"):
        run(tmp_path / "shards", tmp_path / "strict", replace(SETTINGS, on_error="raise"))


def test_without_accelerate_it_says_what_to_install(tiny_shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(BackendError, match="pip install accelerate"):
        run(tiny_shards, tmp_path / "out")
    assert not (tmp_path / "out").exists()
