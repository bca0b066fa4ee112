"""Downloads from a fake hub by the command line in a separate process.

A process, because the hub's library reads its environment when it is imported.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from generation.weights.catalogue import published
from tests.generation.weights.fake_hub import COMMIT, FakeHub, Refusal
from tests.generation.weights.published_files import tiny_shapes, write_hollow

ROOT = Path(__file__).parents[3]
FILE = published["sv4d2"].file_name
CHUNK = (
    10 * 2**20
)  # of the hub's library: what has arrived of the last one is lost with a connection
GATED = Refusal(401, "GatedRepo", "Access to model stabilityai/sv4d2.0 is restricted.")
DRIVER = """
import sys
from generation.weights import verify as verification
from tests.generation.weights.published_files import tiny_shapes
verification.expected_shapes = lambda name: tiny_shapes()
from fourdvd_cli.app import main
sys.argv[0] = "fourdvd"
main()
"""


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A file of the tiny shapes that is longer than two chunks."""
    path = tmp_path_factory.mktemp("published") / FILE
    shapes = tiny_shapes() | {"conditioner.embedders.5.left_over": (25 * 2**18,)}
    return write_hollow(path, shapes).read_bytes()


@pytest.fixture
def hub(content) -> Iterator[FakeHub]:
    hub = FakeHub(content)
    yield hub
    hub.close()


class Machine:
    """The command line with a separate home and environment."""

    def __init__(self, home: Path, endpoint: str):
        self.home = home
        self.folder = home / "weights"
        self.cache = home / "hf" / "hub"
        foreign = ("HF_", "HUGGING", "FOURDVD_", "TQDM_", "DO_NOT_TRACK", "DISABLE_TELEMETRY")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": endpoint,
            "NO_PROXY": "127.0.0.1",
        }

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, "models", *map(str, arguments)],
            cwd=ROOT,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, **environment: str) -> tuple[int | None, str, str]:
        with self.start(*arguments, **environment) as process:
            stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def fetch(self, *arguments: object, **environment: str) -> tuple[int | None, str, str]:
        return self.run("fetch", "sv4d2", "--accept-license", *arguments, **environment)


@pytest.fixture
def machine(tmp_path, hub) -> Machine:
    return Machine(tmp_path, hub.url)


def test_no_request_is_sent_before_the_license_is_accepted(machine, hub):
    code, stdout, stderr = machine.run("fetch", "sv4d2", "--weights", machine.folder)
    assert (code, stdout) == (4, "")
    assert "Stability AI Community License" in stderr
    assert "https://stability.ai/license" in stderr
    assert hub.asked == []
    assert not machine.folder.exists()


def test_the_file_is_written_to_the_folder_and_its_path_printed(machine, hub, content):
    code, stdout, stderr = machine.fetch("--weights", machine.folder)
    assert (code, stdout) == (0, f"{machine.folder / FILE}\n")
    assert (machine.folder / FILE).read_bytes() == content
    assert [path.name for path in machine.folder.iterdir()] == [FILE]  # nothing unfinished, no lock
    assert "26/26 MB" in stderr
    assert "%" not in stderr  # no bar of the hub's library
    assert not machine.cache.exists()


def test_requests_hold_nothing_but_the_name_of_the_file(machine, hub):
    machine.fetch("--weights", machine.folder)
    path = f"/stabilityai/sv4d2.0/resolve/{{}}/{FILE}"
    assert [(asked.method, asked.path) for asked in hub.asked] == [
        ("HEAD", path.format("main")),
        ("GET", path.format(COMMIT)),
    ]
    assert "torch" not in hub.asked[0].headers["user-agent"]


def test_without_a_folder_the_file_goes_to_the_hugging_face_cache(machine, hub, content):
    code, stdout, _ = machine.fetch("--quiet")
    assert code == 0
    path = Path(stdout.strip())
    assert path == machine.cache / "models--stabilityai--sv4d2.0" / "snapshots" / COMMIT / FILE
    assert path.read_bytes() == content
    assert path.resolve().name == hub.etag
    assert not list(machine.cache.rglob("*.incomplete"))
    asked = len(hub.asked)
    assert machine.run("verify", "--json")[0] == 0
    assert machine.fetch() == (0, stdout, "")
    assert len(hub.asked) == asked  # it is there; the hub is not asked again


def test_the_folder_of_the_variable_comes_before_the_cache(machine, hub):
    code, stdout, stderr = machine.fetch("--quiet", FOURDVD_WEIGHTS=str(machine.folder))
    assert (code, stdout, stderr) == (0, f"{machine.folder / FILE}\n", "")


@pytest.mark.parametrize("place", ["folder", "cache"])
def test_a_broken_download_is_resumed(machine, hub, content, place):
    arguments = ["--weights", machine.folder] if place == "folder" else []
    hub.breaks = [CHUNK + 5]
    hub.deliveries_refused = 503
    code, stdout, stderr = machine.fetch(*arguments)
    assert (code, stdout) == (4, "")
    assert "503" in stderr
    assert "Traceback" not in stderr
    assert machine.run("verify", "sv4d2", *arguments)[0] == 4  # unfinished is not there yet
    before = len(hub.delivered)

    hub.deliveries_refused = None
    code, stdout, _ = machine.fetch(*arguments)
    assert code == 0
    assert Path(stdout.strip()).read_bytes() == content
    assert [asked.headers.get("range") for asked in hub.delivered[before:]] == [f"bytes={CHUNK}-"]


def test_one_broken_connection_is_retried_silently(machine, hub, content):
    hub.breaks = [2 * CHUNK + 5]
    assert machine.fetch("--weights", machine.folder, "--quiet")[::2] == (0, "")
    assert (machine.folder / FILE).read_bytes() == content
    assert [asked.headers.get("range") for asked in hub.delivered] == [None, f"bytes={2 * CHUNK}-"]


def test_an_interrupted_download_is_resumed(machine, hub, content):
    hub.breaks = [-(CHUNK + 5)]
    arguments = ("fetch", "sv4d2", "--accept-license", "--weights", machine.folder)
    with machine.start(*arguments) as process:
        deadline = time.monotonic() + 30
        while not any(p.stat().st_size >= CHUNK for p in machine.folder.glob(".*.unfinished")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=30)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert machine.fetch("--weights", machine.folder)[0] == 0
    assert (machine.folder / FILE).read_bytes() == content
    assert hub.delivered[-1].headers["range"] == f"bytes={CHUNK}-"


def test_two_concurrent_downloads_transfer_the_file_once(machine, hub, content):
    arguments = ("fetch", "sv4d2", "--accept-license", "--weights", machine.folder)
    processes = [machine.start(*arguments) for _ in range(2)]
    for process in processes:
        with process:
            stderr = process.communicate(timeout=60)[1]
        assert process.returncode == 0, stderr
    assert len(hub.delivered) == 1
    assert (machine.folder / FILE).read_bytes() == content


def test_a_damaged_download_is_discarded(machine, hub):
    hub.etag = "0" * 64
    code, _, stderr = machine.fetch("--weights", machine.folder)
    assert code == 4
    assert "sha256" in stderr
    assert not list(machine.folder.glob("*.safetensors")) + list(machine.folder.glob("*unfinished"))


def test_a_file_of_another_model_is_an_error_whether_downloaded_or_found(machine, hub):
    write_hollow(machine.home / "other", {"model.diffusion_model.x": (1,)})
    other = FakeHub((machine.home / "other").read_bytes())
    for _ in range(2):
        code, stdout, stderr = machine.fetch("--weights", machine.folder, HF_ENDPOINT=other.url)
        assert (code, stdout) == (4, "")
        assert "not the weights of sv4d2" in stderr
    assert len(other.delivered) == 1
    other.close()


@pytest.mark.parametrize(
    ("refusal", "token", "said"),
    [
        (GATED, None, "without an account"),
        (Refusal(403, "GatedRepo", "not in the authorized list"), "hf_x", "not accepted the licen"),
        (Refusal(401, None, "Invalid credentials in Authorization header"), "hf_x", "is unknown"),
        (Refusal(401, "RepoNotFound", "Repository not found"), None, "without an account"),
        (Refusal(404, "EntryNotFound", "Entry not found"), None, f"no {FILE} in stabilityai/sv4d2"),
        (Refusal(404, "RevisionNotFound", "Invalid rev id"), None, "the hub has no"),
        (Refusal(404), None, "answered 404"),
        (Refusal(500), None, "answered 500"),
    ],
)
def test_a_refusal_says_what_to_do(machine, hub, refusal, token, said):
    hub.refusal = refusal
    environment = {"HF_TOKEN": token} if token else {}
    code, stdout, stderr = machine.fetch("--weights", machine.folder, **environment)
    assert (code, stdout) == (4, "")
    assert said in stderr
    assert "Traceback" not in stderr
    assert hub.asked[0].headers.get("authorization") == (f"Bearer {token}" if token else None)
    assert hub.delivered == []


def test_the_token_grants_access_and_is_sent_to_the_hub_only(machine, hub):
    hub.refusal, hub.tokens = GATED, {"hf_right"}
    assert machine.fetch("--weights", machine.folder, HF_TOKEN="hf_right")[0] == 0
    assert all(asked.headers["authorization"] == "Bearer hf_right" for asked in hub.asked)
    assert not any("authorization" in asked.headers for asked in hub.delivered)


def test_offline_mode_sends_no_request(machine, hub):
    code, _, stderr = machine.fetch("--weights", machine.folder, HF_HUB_OFFLINE="1")
    assert code == 4
    assert "HF_HUB_OFFLINE" in stderr
    assert hub.asked == []


def test_an_unreachable_hub_is_an_error(tmp_path, content):
    gone = FakeHub(content)
    gone.close()
    code, _, stderr = Machine(tmp_path, gone.url).fetch("--weights", tmp_path / "weights")
    assert code == 4
    assert "connection to the hub failed" in stderr
    assert "Traceback" not in stderr


def test_a_full_disk_is_reported_before_the_download(machine, hub):
    hub.size = 10**17
    code, _, stderr = machine.fetch("--weights", machine.folder)
    assert code == 1
    assert "100000000.0 GB of free space" in stderr
    assert hub.delivered == []


@pytest.mark.parametrize(("commit", "etag"), [(None, "0" * 64), (COMMIT, ""), (COMMIT, "../../x")])
def test_an_answer_that_is_not_from_a_hub_is_an_error(machine, hub, commit, etag):
    hub.commit, hub.etag = commit, etag
    code, stdout, stderr = machine.fetch("--weights", machine.folder)
    assert (code, stdout) == (4, "")
    assert "expected a Hugging Face hub" in stderr
    assert hub.delivered == []
