import base64
import io
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from generation.curation.filters.completeness import PROMPT
from generation.curation.filters.judges import (
    ATTEMPTS,
    LOCAL_ANSWER_TOKENS,
    LocalJudge,
    ServerJudge,
)
from recon.errors import BackendError, InputError, WeightsError
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


def test_answers_of_a_model_are_deterministic_and_depend_on_the_picture(folder, no_network):
    judge = LocalJudge(str(folder))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    black, other = Image.new("RGB", (64, 64)), Image.fromarray(noise)
    answer = judge.answer(black, PROMPT)
    assert 0 < len(answer.encode()) <= 4 * LOCAL_ANSWER_TOKENS
    assert PROMPT[:20] not in answer
    assert judge.answer(black, PROMPT) == answer
    assert judge.answer(other, PROMPT) != answer
    assert judge.name == str(folder)


def test_loading_prints_nothing(folder, capfd):
    LocalJudge(str(folder))
    assert capfd.readouterr() == ("", "")


def test_the_error_for_a_missing_model_names_the_download_command(no_network):
    with pytest.raises(WeightsError, match="nobody/nothing") as raised:
        LocalJudge("nobody/nothing")
    assert "hf download nobody/nothing" in (raised.value.hint or "")


def test_a_model_without_pictures_or_without_chat_is_refused(folder, tmp_path):
    mute = save_tiny_llava(tmp_path / "mute", chat_template=None)
    with pytest.raises(WeightsError, match="chat template"):
        LocalJudge(str(mute))
    with pytest.raises(WeightsError, match="not an image-text-to-text"):
        LocalJudge(str(tmp_path))
    (tmp_path / "text").mkdir()
    for file in folder.glob("tokenizer*"):
        (tmp_path / "text" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "text" / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(WeightsError):
        LocalJudge(str(tmp_path / "text"))


PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def completion(text) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


class Server:
    """Server that gives the scripted answers in turn, then repeats the last one."""

    def __init__(self, *answers: tuple[int, bytes], delay: float = 0.0):
        self.requests: list[tuple[str, dict, dict]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append((self.path, dict(self.headers), json.loads(body)))
                status, answer = answers[min(len(server.requests), len(answers)) - 1]
                time.sleep(delay)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda request, client_address: None
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *failure):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def judge(self, **named) -> ServerJudge:
        port = self._http.server_address[1]
        return ServerJudge(f"http://127.0.0.1:{port}/v1", "m", first_wait_s=0.01, **named)


def test_a_request_holds_picture_and_prompt_and_returns_the_answer(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with Server((200, completion(" complete \n"))) as server:
        assert server.judge().answer(PICTURE, "Is it?") == "complete"
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert body["model"] == "m"
    image, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Is it?"}
    scheme, data = image["image_url"]["url"].split(",")
    assert scheme == "data:image/png;base64"
    sent = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert (sent == np.asarray(PICTURE)).all()


def test_temporary_failures_are_retried():
    with Server((503, b"busy"), (429, b"slow down"), (200, completion("yes"))) as server:
        assert server.judge().answer(PICTURE, "") == "yes"
    assert len(server.requests) == 3


def test_a_lasting_failure_is_reported_with_the_message_of_the_server():
    with Server((500, b"no memory")) as server:
        with pytest.raises(BackendError, match=r"HTTP 500: no memory \(4 attempts\)"):
            server.judge().answer(PICTURE, "")
        assert len(server.requests) == ATTEMPTS


def test_a_refused_request_is_not_retried():
    with Server((404, b"no model m")) as server:
        with pytest.raises(BackendError, match="HTTP 404: no model m"):
            server.judge().answer(PICTURE, "")
        assert len(server.requests) == 1


def test_a_server_that_does_not_answer_is_an_error():
    with (
        Server((200, completion("late")), delay=0.4) as server,
        pytest.raises(BackendError, match=r"no answer.*timed out"),
    ):
        server.judge(timeout_s=0.05).answer(PICTURE, "")
    with pytest.raises(BackendError, match="no answer"):
        server.judge().answer(PICTURE, "")


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"choices": []}', b"[1]", completion(None), b"\xff"]
)
def test_an_answer_that_is_no_chat_completion_is_an_error(body):
    with (
        Server((200, body)) as server,
        pytest.raises(BackendError, match="expected a chat completion"),
    ):
        server.judge().answer(PICTURE, "")


def test_urls_of_other_schemes_are_refused():
    with pytest.raises(InputError, match="http://localhost"):
        ServerJudge("file:///etc/passwd", "m")
