"""A multimodal language model of transformers, on this machine, as a judge of pictures.

Any model that `AutoModelForImageTextToText` knows, by folder or by its name on the hub. Nothing is
downloaded unless asked: a name is looked for in the cache of Hugging Face. Code that comes with a
model is not run. What it does not know: the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from recon.errors import BackendError, WeightsError

ANSWER_TOKENS = 128


class LocalJudge:
    """A loaded model; its answers are deterministic.

    Args:
        model: folder, or name on the hub.
        device: "cpu" or "cuda".
        download: whether a model that is not in the cache may be fetched.

    Raises:
        WeightsError: the model is not there, or is none that looks at pictures and answers.
        BackendError: a package that its image reader needs is missing.
    """

    def __init__(self, model: str, device: str = "cpu", download: bool = False):
        self._device = device
        self._label = model
        with _silent_transformers():
            self._processor, self._network = _load(model, device, download)

    @property
    def name(self) -> str:
        """The model as it was asked for, with the commit if it came from the hub."""
        commit = getattr(self._network.config, "_commit_hash", None)
        return f"{self._label}@{commit}" if commit else self._label

    def answer(self, picture: Image.Image, prompt: str) -> str:
        """What it says of an RGB picture, at most `ANSWER_TOKENS` tokens of it."""
        content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._device, dtype=self._network.dtype)
        with torch.inference_mode():
            tokens = self._network.generate(**inputs, do_sample=False, max_new_tokens=ANSWER_TOKENS)
        fresh = tokens[0, inputs["input_ids"].shape[1] :]
        return self._processor.decode(fresh, skip_special_tokens=True).strip()


def _load(model: str, device: str, download: bool) -> tuple[Any, Any]:
    """Processor and network, with the errors of transformers as ours."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    source = str(Path(model).resolve()) if Path(model).is_dir() else model
    only_here = not download
    try:
        processor = AutoProcessor.from_pretrained(source, local_files_only=only_here)
        network = AutoModelForImageTextToText.from_pretrained(
            source,
            local_files_only=only_here,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            use_safetensors=True,
        )
    except ImportError as error:
        raise BackendError(f"{model} needs another package: {error}") from error
    except OSError as error:
        raise WeightsError(
            f"the model {model} is not on this machine as configuration and safetensors "
            f"({_first_line(error)})",
            hint=f"name its folder, or fetch it: `hf download {model}`",
        ) from error
    except (ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{model} is no model that takes pictures and text ({_first_line(error)})",
            hint="take one of the task image-text-to-text",
        ) from error
    if not getattr(processor, "chat_template", None):
        raise WeightsError(
            f"{model} has no chat template, so it cannot be asked",
            hint="take a variant that is tuned to answer, often named Instruct or Chat",
        )
    network.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    return processor, network.eval()


@contextmanager
def _silent_transformers() -> Iterator[None]:
    """Keeps the library's advice and progress bars from the terminal, then puts them back."""
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
