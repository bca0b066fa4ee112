"""A multimodal language model behind a server that speaks OpenAI's chat completions.

vLLM, llama.cpp, Ollama, SGLang and LM Studio speak it, and so do services on the internet; a
key is read from `OPENAI_API_KEY`. The picture travels as a data URL of PNG. What it does not know:
the question.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from recon.errors import BackendError, InputError
from recon.media import encode_image

ANSWER_TOKENS = 512  # some models think first
MOST_ANSWER_BYTES = 1 << 20
PATIENCE_SECONDS = 120.0
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0  # twice as long each time
MAY_PASS = (408, 409, 425, 429, 500, 502, 503, 504)
KEY_VARIABLE = "OPENAI_API_KEY"


@dataclass(frozen=True)
class ServerJudge:
    """A model on a server.

    Attributes:
        url: where the interface starts, as "http://localhost:8000/v1".
        model: as the server calls it.
        patience_seconds: for one answer.
        first_wait_seconds: before the second attempt; doubled each time.

    Raises:
        InputError: the address is none of http or https.
    """

    url: str
    model: str
    patience_seconds: float = PATIENCE_SECONDS
    first_wait_seconds: float = FIRST_WAIT_SECONDS

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"expected an address like http://localhost:8000/v1, found {self.url}")

    @property
    def name(self) -> str:
        """The model; where it runs does not change what it says."""
        return self.model

    def answer(self, picture: Image.Image, prompt: str) -> str:
        """What the model says of an RGB picture.

        Raises:
            BackendError: the server cannot be reached, refuses, or answers something else; after
                a few attempts, where the fault may pass.
        """
        request = self._request(picture, prompt)
        for attempt in range(ATTEMPTS):
            try:
                return _content(self._send(request))
            except _MayPassError as error:
                if attempt == ATTEMPTS - 1:
                    raise BackendError(f"{self.url}: {error} ({ATTEMPTS} attempts)") from error
                time.sleep(self.first_wait_seconds * 2**attempt)
            except ValueError as error:
                raise BackendError(
                    f"{self.url}: the answer is not that of a chat completion ({error})"
                ) from error
        raise AssertionError("the last attempt returns or raises")

    def _request(self, picture: Image.Image, prompt: str) -> urllib.request.Request:
        png = encode_image(np.asarray(picture), ".png")
        image = "data:image/png;base64," + base64.b64encode(png).decode()
        content = [
            {"type": "image_url", "image_url": {"url": image}},
            {"type": "text", "text": prompt},
        ]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
        }
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {os.environ[KEY_VARIABLE]}"
        address = self.url.rstrip("/") + "/chat/completions"
        return urllib.request.Request(address, json.dumps(body).encode(), headers)

    def _send(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=self.patience_seconds) as response:
                return response.read(MOST_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode(errors="replace").strip()
            sentence = f"HTTP {error.code}: {said or error.reason}"
            if error.code in MAY_PASS:
                raise _MayPassError(sentence) from error
            raise BackendError(f"{self.url}: {sentence}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "reason", None) or error
            raise _MayPassError(f"no answer: {reason or type(error).__name__}") from error


class _MayPassError(Exception):
    """A fault that another attempt may not meet."""


def _content(body: bytes) -> str:
    """The text of a chat completion; ValueError if it is none."""
    answer: Any = json.loads(body)
    try:
        content = answer["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        raise ValueError(f"{body[:200]!r}") from None
    if not isinstance(content, str):
        raise ValueError(f"the content is {content!r:.100}")
    return content.strip()
