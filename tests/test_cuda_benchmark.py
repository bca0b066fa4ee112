"""The benchmark of CUDA devices keeps what was measured, whatever becomes of a part."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.benchmarks import cuda
from tests.benchmarks.cuda import Part, run, text
from tests.benchmarks.cuda_measurements import PARTS, ROOT, Number, growing

WRITE = "open({path!r}, 'a').write({line!r} + chr(10)); "
NUMBER = Number("speed", 3.5, "m/s", at_least=4)


def ran(folder: Path, code: str, limit_s: float = 30.0) -> Part:
    part, found = Part("unet"), folder / "unet.jsonl"
    line = json.dumps(vars(NUMBER))
    write = WRITE.format(path=str(found), line=line)
    run(part, [sys.executable, "-c", write + code], found, limit_s)
    return part


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise MemoryError('19 GiB')", "MemoryError: 19 GiB"),
        ("import no_such_package", "no_such_package"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
    ],
)
def test_a_part_that_fails_keeps_its_numbers_and_tells_why(tmp_path, code, reason):
    part = ran(tmp_path, code)
    assert part.status == "failed"
    assert reason in str(part.reason)
    assert part.numbers == [NUMBER]


def test_a_part_that_takes_too_long_is_stopped_with_the_processes_that_it_started(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(cuda, "LEAST_SECONDS", 0.0)
    sleeper = tmp_path / "pid"
    code = (
        "import subprocess; child = subprocess.Popen(['sleep', '60']); "
        f"open({str(sleeper)!r}, 'w').write(str(child.pid)); child.wait()"
    )
    part = ran(tmp_path, code, limit_s=2.0)
    assert (part.status, part.reason) == ("failed", "stopped after 2 s")
    assert part.numbers == [NUMBER]
    assert _ends(int(sleeper.read_text()))


def test_a_part_is_not_started_without_time(tmp_path):
    part = ran(tmp_path, "", limit_s=1.0)
    assert (part.status, part.numbers) == ("not run", [])


def test_the_table_shows_missed_targets_and_failed_parts():
    parts = [Part("fit", "done", numbers=[NUMBER]), Part("unet", "failed", 3.0, "a | b")]
    found = text({"card": "H200", "gsplat": None}, parts)
    assert "| fit: speed | 3.50 m/s | ≥ 4 m/s | **no** |" in found
    assert "| **unet** | failed, 3 s |  | a \\| b |" in found
    assert "H200" in found
    assert "gsplat" not in found


@pytest.mark.parametrize("largest", [0, 1, 4, 5, 37, 100, 1000])
def test_the_largest_number_that_fits_is_found_to_a_tenth(largest: int):
    found = [0, *growing(lambda number: number <= largest, 5)]
    assert found == sorted(set(found))
    assert 0.9 * largest - 1 <= found[-1] <= largest


def test_every_part_has_a_limit():
    assert list(cuda.SECONDS) == list(PARTS)


def test_without_a_device_the_benchmark_asks_for_a_rehearsal(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        cuda.main([])
    assert "--rehearse" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_rehearsal_leaves_the_parts_that_were_finished(tmp_path):
    command = [sys.executable, "-m", "tests.benchmarks.cuda", "--rehearse", "-o", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--parts", "gsplat", "largest-window", "unet"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    file = tmp_path / "cuda.json"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not _is_done(file, "gsplat"):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    parts = json.loads(file.read_text())["parts"]
    assert parts[0]["status"] == "done"
    assert parts[0]["numbers"]
    assert "gsplat" in (tmp_path / "cuda.md").read_text()


def _ends(pid: int) -> bool:
    """Whether a process that was not started here ends soon; a zombie has ended."""
    with suppress(psutil.NoSuchProcess):
        process, deadline = psutil.Process(pid), time.monotonic() + 20
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
    return True


def _is_done(file: Path, name: str) -> bool:
    parts = json.loads(file.read_text())["parts"] if file.exists() else []
    return any(part["name"] == name and part["status"] == "done" for part in parts)


@pytest.mark.slow
def test_a_rehearsal_runs_all_parts(tmp_path):
    assert cuda.main(["--rehearse", "--minutes", "20", "-o", str(tmp_path)]) == 0
    parts = json.loads((tmp_path / "cuda.json").read_text())["parts"]
    assert {part["name"]: bool(part["numbers"]) for part in parts} == dict.fromkeys(PARTS, True)
