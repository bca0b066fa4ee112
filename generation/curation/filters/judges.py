"""Multimodal language models that answer a question about a picture: in this process or served.

Both implement `completeness.Judge`. `LocalJudge` runs any model of transformers'
`AutoModelForImageTextToText`; nothing is downloaded unless requested, and code that comes with a
model is never executed. `ServerJudge` talks to an OpenAI-compatible server (vLLM, llama.cpp,
Ollama, SGLang, LM Studio or a hosted service).
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from generation.curation.filters.completeness import Judge
from recon.devices import resolve_network_device
from recon.errors import BackendError, InputError, WeightsError
from recon.media import encode_image

LOCAL_ANSWER_TOKENS = 128
SERVER_ANSWER_TOKENS = 512  # reasoning models use some of them before the answer
MAX_ANSWER_BYTES = 1 << 20
TIMEOUT_S = 120.0
ATTEMPTS = 4
FIRST_WAIT_S = 1.0
RETRIED_STATUS_CODES = (408, 409, 425, 429, 500, 502, 503, 504)
KEY_VARIABLE = "OPENAI_API_KEY"


def load_judge(
    model: str | None, url: str | None = None, device: str = "auto", download: bool = False
) -> Judge | None:
    """Load a local model, or connect to a served one.

    Args:
        model: folder, name on the hub, or name on the server; None for no model.
        url: base URL of a server; None for a local model.
        device: "auto", "cpu" or "cuda", for a local model.
        download: whether a local model that is not in the cache may be downloaded.

    Raises:
        WeightsError, BackendError: see `LocalJudge`.
        InputError: see `ServerJudge`.
    """
    if model is None:
        return None
    if url is not None:
        return ServerJudge(url, model)
    return LocalJudge(model, resolve_network_device(device), download)


class LocalJudge:
    """A loaded transformers model with greedy, hence deterministic, decoding.

    Args:
        model: folder, or name on the Hugging Face hub.
        device: "cpu" or "cuda".
        download: whether a model that is not in the cache may be downloaded.

    Raises:
        WeightsError: the model is not on this machine, or is not an image-text-to-text model.
        BackendError: a package that its image processor needs is missing.
    """

    def __init__(self, model: str, device: str = "cpu", download: bool = False):
        self._device = device
        self._label = model
        with _silent_transformers():
            self._processor, self._network = _load(model, device, download)

    @property
    def name(self) -> str:
        """The requested model, with the commit hash if it came from the hub."""
        commit = getattr(self._network.config, "_commit_hash", None)
        return f"{self._label}@{commit}" if commit else self._label

    def answer(self, picture: Image.Image, prompt: str) -> str:
        """Answer a prompt about an RGB picture in at most `LOCAL_ANSWER_TOKENS` tokens."""
        import torch

        content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._device, dtype=self._network.dtype)
        with torch.inference_mode():
            tokens = self._network.generate(
                **inputs, do_sample=False, max_new_tokens=LOCAL_ANSWER_TOKENS
            )
        new_tokens = tokens[0, inputs["input_ids"].shape[1] :]
        return self._processor.decode(new_tokens, skip_special_tokens=True).strip()


@dataclass(frozen=True)
class ServerJudge:
    """A model behind an OpenAI-compatible server; an API key is read from `OPENAI_API_KEY`.

    Attributes:
        url: base URL of the API, e.g. "http://localhost:8000/v1".
        model: name of the model on the server.
        timeout_s: time limit of one request in seconds.
        first_wait_s: seconds before the first retry, doubled for each further one.

    Raises:
        InputError: the URL's scheme is neither http nor https.
    """

    url: str
    model: str
    timeout_s: float = TIMEOUT_S
    first_wait_s: float = FIRST_WAIT_S

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"expected a URL such as http://localhost:8000/v1, found {self.url}")

    @property
    def name(self) -> str:
        """Name of the model, whatever the server."""
        return self.model

    def answer(self, picture: Image.Image, prompt: str) -> str:
        """Answer a prompt about an RGB picture, which is sent as a PNG data URL.

        Raises:
            BackendError: the server is unreachable, refuses the request or sends no chat
                completion. Temporary failures are retried first.
        """
        request = self._request(picture, prompt)
        for attempt in range(ATTEMPTS):
            try:
                return _content(self._send(request))
            except _TemporaryError as error:
                if attempt == ATTEMPTS - 1:
                    raise BackendError(f"{self.url}: {error} ({ATTEMPTS} attempts)") from error
                time.sleep(self.first_wait_s * 2**attempt)
            except ValueError as error:
                raise BackendError(
                    f"{self.url}: expected a chat completion, found {error}; check that the URL is "
                    "the base of an OpenAI-compatible API"
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
            "max_tokens": SERVER_ANSWER_TOKENS,
            "temperature": 0,
        }
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {os.environ[KEY_VARIABLE]}"
        url = self.url.rstrip("/") + "/chat/completions"
        return urllib.request.Request(url, json.dumps(body).encode(), headers)

    def _send(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                return response.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(500).decode(errors="replace").strip()
            message = f"HTTP {error.code}: {body or error.reason}"
            if error.code in RETRIED_STATUS_CODES:
                raise _TemporaryError(message) from error
            raise BackendError(f"{self.url}: {message}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = getattr(error, "reason", None) or error
            raise _TemporaryError(f"no answer: {reason or type(error).__name__}") from error


class _TemporaryError(Exception):
    """A failure that may not occur again in a retry."""


def _load(model: str, device: str, download: bool) -> tuple[Any, Any]:
    """Load processor and network, and translate errors of transformers."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    source = str(Path(model).resolve()) if Path(model).is_dir() else model
    try:
        processor = AutoProcessor.from_pretrained(source, local_files_only=not download)
        network = AutoModelForImageTextToText.from_pretrained(
            source,
            local_files_only=not download,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            use_safetensors=True,
        )
    except ImportError as error:
        raise BackendError(f"{model} needs another package: {error}") from error
    except OSError as error:
        raise WeightsError(
            f"expected configuration and safetensors of the model {model} on this machine, found "
            f"none ({_first_line(error)})",
            hint=f"pass its folder, or download it with `hf download {model}`",
        ) from error
    except (ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{model} is not an image-text-to-text model ({_first_line(error)})",
            hint="choose a model with the task image-text-to-text",
        ) from error
    if not getattr(processor, "chat_template", None):
        raise WeightsError(
            f"{model} has no chat template",
            hint="choose an instruction-tuned variant, often named Instruct or Chat",
        )
    network.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    return processor, network.eval()


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Silence the logs and progress bars of transformers, and restore them afterwards."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _content(body: bytes) -> str:
    """Extract the text of a chat completion; raise ValueError if `body` is not one."""
    answer: Any = json.loads(body)
    try:
        content = answer["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        raise ValueError(f"{body[:200]!r}") from None
    if not isinstance(content, str):
        raise ValueError(f"the content is {content!r:.100}")
    return content.strip()
