"""Run the benchmarks that take minutes, on the bundled example; `make bench` calls this.

    python -m tests.benchmarks

Longer benchmarks are commands of their own, which this prints at the end.
"""

from __future__ import annotations

from tests.benchmarks import fit, fit_step, rasterizer, unet

EXAMPLE_SECONDS = "45"

THE_REST = """
Not measured here, because it takes longer (about a minute for each fit):
  python -m tests.benchmarks.fit examples/robot
  python -m tests.benchmarks.fit GRID ... --motion bones --densification relocation grow-and-prune
  python -m tests.benchmarks.fit_step GRID --size 128 256 576
Held-out views are those of transforms_test.json in each grid. Every command takes --help."""


def main() -> None:
    rasterizer.main([])
    fit_step.main([])
    unet.main([])
    fit.main(["--seconds", EXAMPLE_SECONDS, "--densification", "relocation", "--no-page"])
    print(THE_REST)


if __name__ == "__main__":
    main()
