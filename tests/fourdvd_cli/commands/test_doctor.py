import json

import pytest

from fourdvd_cli import doctor
from recon.errors import BackendError
from recon.native import library

NAMES = {
    "fourdvd", "python", "processor", "torch", "cuda", "cuda_toolkit", "gsplat", "cpu_kernel",
    "h264", "lift", "weights", "data", "disk",
}  # fmt: skip


def test_the_findings_are_one_json_object(fourdvd):
    outcome = fourdvd("doctor", "--json")
    assert outcome.exit_code == 0
    findings = json.loads(outcome.stdout)
    assert set(findings) == NAMES
    assert all(set(finding) == {"ok", "found", "advice"} for finding in findings.values())
    assert outcome.stderr == ""


def test_without_json_each_finding_is_a_line(fourdvd):
    lines = fourdvd("doctor").stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(doctor.diagnose(doctor.Path.cwd()))


def test_a_missing_part_comes_with_advice(tmp_path):
    for finding in doctor.diagnose(tmp_path).values():
        assert finding.ok or finding.advice


def test_kernels_that_were_not_built_come_with_advice(fourdvd, monkeypatch):
    def kernels():
        raise BackendError("the CPU kernels were not compiled; run this")

    monkeypatch.setattr(library, "kernels", kernels)
    outcome = fourdvd("doctor", "--json")
    assert outcome.exit_code == 0
    finding = json.loads(outcome.stdout)["cpu_kernel"]
    assert not finding["ok"]
    assert "run this" in finding["advice"]


@pytest.mark.parametrize("compiler", ["/opt/cuda/bin/nvcc", None])
def test_the_cuda_toolkit_is_found_by_the_environment(monkeypatch, compiler):
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: compiler)
    assert doctor.diagnose(doctor.Path.cwd())["cuda_toolkit"].ok == (compiler is not None)
