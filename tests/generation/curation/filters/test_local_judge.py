import socket

import numpy as np
import pytest
import torch
from PIL import Image

from generation.curation.filters.completeness import PROMPT
from generation.curation.filters.local_judge import ANSWER_TOKENS, LocalJudge
from recon.errors import WeightsError
from tests.generation.curation.filters.tiny_llava import save_tiny_llava


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("model"))


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError("nothing may be fetched unasked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_model_answers_the_same_again_and_about_the_picture(folder, no_network):
    judge = LocalJudge(str(folder))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    black, other = Image.new("RGB", (64, 64)), Image.fromarray(noise)
    answer = judge.answer(black, PROMPT)
    assert 0 < len(answer.encode()) <= 4 * ANSWER_TOKENS
    assert PROMPT[:20] not in answer
    assert judge.answer(black, PROMPT) == answer
    assert judge.answer(other, PROMPT) != answer
    assert judge.name == str(folder)


def test_loading_shows_nothing(folder, capfd):
    LocalJudge(str(folder))
    assert capfd.readouterr() == ("", "")


def test_a_model_that_is_not_here_is_named_with_what_to_do(no_network):
    with pytest.raises(WeightsError, match="nobody/nothing") as raised:
        LocalJudge("nobody/nothing")
    assert "hf download nobody/nothing" in (raised.value.hint or "")


def test_a_model_without_pictures_or_without_chat_is_refused(folder, tmp_path):
    mute = save_tiny_llava(tmp_path / "mute", chat_template=None)
    with pytest.raises(WeightsError, match="chat template"):
        LocalJudge(str(mute))
    with pytest.raises(WeightsError, match="no model that takes pictures"):
        LocalJudge(str(tmp_path))
    (tmp_path / "text").mkdir()
    for file in folder.glob("tokenizer*"):
        (tmp_path / "text" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "text" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(WeightsError):
        LocalJudge(str(tmp_path / "text"))
