import io
import json

import numpy as np
import pytest
from PIL import Image

from generation.curation.filters.completeness import (
    PROMPT,
    PROMPT_SHA256,
    Judgement,
    judge_completeness,
    parse_answer,
    picture_for_judge,
)
from recon.errors import GridError
from recon.grid import write_grid
from tests.generation.curation.filters.discs import altered, steady, textured_disc


class Parrot:
    """Judge that always gives the same answer and records the prompts."""

    name = "parrot"

    def __init__(self, answer: str):
        self._answer = answer
        self.asked: list[tuple[Image.Image, str]] = []

    def answer(self, picture: Image.Image, prompt: str) -> str:
        self.asked.append((picture, prompt))
        return self._answer


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('{"complete": true, "reason": "a fox"}', (True, "a fox")),
        ('Sure!\n```json\n{"complete": false, "reason": "an arm"}\n```', (False, "an arm")),
        ('<think>{maybe} {"a": 1}</think> {"reason": "x", "complete": true}', (True, "x")),
        ('{"complete": false}', (False, "")),
        ('{"complete": "yes"}', (None, "")),
        ("It looks complete to me.", (None, "")),
        ('{"complete": tru', (None, "")),
        ("", (None, "")),
    ],
)
def test_a_verdict_is_found_anywhere_in_an_answer(answer, verdict):
    assert parse_answer(answer) == verdict


def test_the_answer_format_in_the_prompt_can_be_parsed():
    shown = PROMPT[PROMPT.rindex("{") :].replace("true or false", "true")
    assert json.loads(shown)["complete"] is True


def test_a_judgement_records_model_prompt_and_answer():
    judge = Parrot('{"complete": false, "reason": "half a fox"}')
    judgement = judge_completeness(Image.new("RGB", (4, 4)), judge)
    assert judgement == Judgement(
        False, "half a fox", '{"complete": false, "reason": "half a fox"}', "parrot", PROMPT_SHA256
    )
    assert judge.asked[0][1] == PROMPT
    assert judgement.is_by(judge)
    assert not judgement.is_by(type("Other", (Parrot,), {"name": "other"})(""))


def test_the_picture_shows_four_cropped_views_over_white(tmp_path):
    write_grid(textured_disc(steady(3), radius=8), tmp_path / "grid")
    picture = np.asarray(Image.open(io.BytesIO(picture_for_judge(tmp_path / "grid"))))
    height, width = picture.shape[:2]
    for rows in (slice(height // 2), slice(height // 2, None)):
        for columns in (slice(width // 2), slice(width // 2, None)):
            tile = picture[rows, columns]
            assert (tile[0, 0] == 255).all()
            assert (tile.min(axis=-1) < 250).mean() == pytest.approx(np.pi / 4 / 1.1**2, abs=0.07)


def test_the_picture_of_an_empty_grid_is_white_and_a_damaged_one_is_an_error(tmp_path):
    write_grid(altered(textured_disc(steady(2)), np.zeros_like), tmp_path / "grid")
    assert np.asarray(Image.open(io.BytesIO(picture_for_judge(tmp_path / "grid")))).min() == 255
    with pytest.raises(GridError):
        picture_for_judge(tmp_path)
