"""The network of lift trains on baked assets, resumes exactly, and is scored right."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generation.lift.network import YAW_BINS, LiftPrediction
from generation.training.batches import HeldOut
from generation.training.clip_sampling import SampleRng
from generation.training.engine import train
from generation.training.lift_dataset import LiftBatch
from generation.training.lift_stage import (
    NOTICE_FILE,
    LiftStage,
    LiftStageConfig,
    lift_target,
    read_encoder,
)
from generation.training.run_folder import read_log
from generation.training.samples import Item
from generation.weights.model_weights import open_lift
from recon.errors import InputError, Interrupted, WeightsError
from tests.generation.lift.tiny_network import TINY_LIFT
from tests.generation.training.tiny_lift import (
    ENGINE,
    TINY,
    write_bakes,
    write_encoder,
)

PLAIN = replace(TINY, network=replace(TINY_LIFT, encoder=False))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bakes(tmp_path_factory) -> Path:
    return write_bakes(tmp_path_factory.mktemp("bakes") / "baked")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "encoder.pth")


@pytest.fixture(scope="module")
def trained(bakes, encoder, tmp_path_factory) -> Path:
    """A finished training."""
    folder = tmp_path_factory.mktemp("trained") / "out"
    train(LiftStage(TINY, 1, encoder), ENGINE, bakes, folder)
    return folder


@pytest.fixture
def samples(bakes) -> LiftBatch:
    return HeldOut(LiftStage(PLAIN).dataset([bakes], ENGINE), ENGINE, CPU).samples


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_log(folder) if "loss" in record]


def test_a_training_writes_the_network_with_its_frozen_encoder_and_the_notice(trained, encoder):
    file = open_lift(trained / "weights")
    assert file.config == TINY_LIFT
    state = file.build().state_dict()
    for name, tensor in read_encoder(encoder).items():
        assert torch.equal(state[f"encoder.{name}"], tensor)
    start = LiftStage(TINY, 1, encoder).module.state_dict()
    changed = [name for name in state if not torch.equal(state[name], start[name])]
    assert not any(name.startswith("encoder.") for name in changed)
    assert {"stem.weight", "head.features.weight"} <= set(changed)
    assert "Apache" in (trained / "weights" / NOTICE_FILE).read_text()
    assert (trained / "samples" / "step_00000004.png").is_file()
    scores = {key for record in read_log(trained) if "yaw_near" in record for key in record}
    for mode in ("unknown", "predicted", "true"):
        assert {f"{mode}_{name}" for name in ("front", "back", "iou", "color")} <= scores


def test_a_stopped_training_resumes_with_the_same_weights(trained, bakes, encoder, tmp_path):
    stops = iter([False, True])
    with pytest.raises(Interrupted, match="step 2"):
        train(LiftStage(TINY, 1, encoder), ENGINE, bakes, tmp_path, should_stop=lambda: next(stops))
    train(LiftStage(TINY, 1, encoder), ENGINE, bakes, tmp_path)
    assert losses(tmp_path) == losses(trained)
    assert open_lift(tmp_path / "weights").sha256 == open_lift(trained / "weights").sha256


def test_a_training_starts_from_the_weights_of_another(trained, tmp_path):
    stage = LiftStage(TINY, 7, start=trained)
    expected = open_lift(trained / "weights")
    torch.testing.assert_close(
        dict(stage.module.state_dict()), expected.build().state_dict(), rtol=0, atol=0
    )
    assert stage.identity["start_sha256"] == expected.sha256
    frozen = stage.module.encoder
    assert frozen is not None
    assert not any(each.requires_grad for each in frozen.parameters())
    assert LiftStage(TINY, start=trained / "weights").identity == stage.identity
    with pytest.raises(WeightsError, match="middle_blocks=2"):
        LiftStage(replace(TINY, network=replace(TINY_LIFT, middle_blocks=2)), start=trained)
    with pytest.raises(WeightsError, match="`fourdvd train lift`"):
        try:
            LiftStage(TINY, start=tmp_path)
        except WeightsError as error:
            raise WeightsError(str(error.hint)) from error


def test_the_identity_can_be_written_as_json(encoder):
    identity = LiftStage(TINY, 0, encoder).identity
    assert json.loads(json.dumps(identity))["network"]["size"] == 32
    assert len(identity["encoder_sha256"]) == 64


def test_the_image_encoder_needs_weights_from_one_place(trained, encoder, tmp_path):
    with pytest.raises(InputError, match="found none"):
        LiftStage(TINY)
    with pytest.raises(InputError, match="found both"):
        LiftStage(TINY, 0, encoder, trained)
    with pytest.raises(InputError, match="encoder: the configured network has none"):
        LiftStage(PLAIN, 0, encoder)
    for content in (b"", b"no pickle", encoder.read_bytes()[:-100]):
        (tmp_path / "wrong.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=r"wrong\.pth"):
            LiftStage(TINY, 0, tmp_path / "wrong.pth")
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth.*EfficientNet-Lite0"):
        LiftStage(TINY, 0, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"none\.pth"):
        LiftStage(TINY, 0, tmp_path / "none.pth")


def test_pickled_code_is_not_run(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save(Harmful(), tmp_path / "harmful.pth")
    with pytest.raises(WeightsError, match=r"harmful\.pth"):
        read_encoder(tmp_path / "harmful.pth")
    assert not (tmp_path / "touched").exists()


def test_the_yaw_is_given_with_noise_in_a_share_of_the_samples(samples):
    stage = LiftStage(PLAIN)
    given: list[Tensor] = []
    stage.module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[2]))
    for step in range(60):
        stage.loss(samples, SampleRng(0, step, range(2)))
    yaw = torch.stack(given)
    known = ~yaw.isnan()
    assert known.float().mean() == pytest.approx(0.5, abs=0.12)
    assert (yaw - samples.yaw)[known].std() == pytest.approx(0.12, abs=0.03)


def test_the_yaw_of_an_asset_without_a_front_is_neither_given_nor_learned(samples):
    stage = LiftStage(PLAIN)
    given: list[Tensor] = []
    stage.module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[2]))
    frontless = samples._replace(yaw=torch.full_like(samples.yaw, math.nan))
    for step in range(8):
        loss, parts = stage.loss(frontless, SampleRng(0, step, range(2)))
        assert loss.isfinite()
        assert parts["yaw"] == 0
    assert torch.stack(given).isnan().all()


def truth(batch: LiftBatch) -> LiftPrediction:
    """Predict the truth, with the yaw as its nearest bin."""
    target = lift_target(batch)
    nearest = torch.round(target.yaw / (2 * math.pi) * YAW_BINS).long() % YAW_BINS
    logits = torch.nn.functional.one_hot(nearest, YAW_BINS).float()
    fields = target._asdict() | {"gap": target.gap.float() - 0.5, "yaw": logits}
    return LiftPrediction(**{name: fields[name] for name in LiftPrediction._fields})


def test_the_truth_has_perfect_scores_and_a_shifted_one_the_size_of_the_shift(samples, monkeypatch):
    stage, exact = LiftStage(PLAIN), truth(samples)
    monkeypatch.setattr(stage, "_predict", lambda *_: exact)
    scores = stage.evaluate(samples, SampleRng(0, 0, range(2)))
    assert (scores["yaw_near"], scores["yaw_flipped"]) == (1, 0)
    for mode in ("unknown", "predicted", "true"):
        found = [scores[f"{mode}_{name}"] for name in ("front", "back", "iou", "color")]
        assert found == pytest.approx([0, 0, 1, 0], abs=1e-6)
    shifted = exact._replace(depth=exact.depth + 0.1, yaw=exact.yaw.roll(YAW_BINS // 2, 1))
    monkeypatch.setattr(stage, "_predict", lambda *_: shifted)
    scores = stage.evaluate(samples, SampleRng(0, 0, range(2)))
    assert (scores["yaw_near"], scores["yaw_flipped"]) == (0, 1)
    assert scores["unknown_front"] == pytest.approx(0.1, abs=1e-5)
    assert 0 < scores["unknown_iou"] < 0.95


def test_images_show_input_prediction_and_truth(samples):
    stage = LiftStage(PLAIN)
    assert stage.images(samples, SampleRng(0, 0, range(2))).shape == (2 * 32, 9 * 32, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"yaw_given_prob": 1.1}, {"figure_share": -0.1}, {"yaw_noise": -1.0}, {"epoch_samples": 7}],
)
def test_configurations_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        LiftStageConfig(**wrong)


def test_other_sizes_are_rendered_at_the_size_of_the_network(bakes):
    stage = LiftStage(replace(PLAIN, network=replace(PLAIN.network, size=48)))
    dataset = stage.dataset([bakes], ENGINE)
    assert dataset.collate([dataset[Item(0, 0)]]).image.shape == (2, 4, 48, 48)
