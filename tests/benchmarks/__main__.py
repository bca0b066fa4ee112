"""The benchmarks that take minutes, on the bundled example; `make bench` runs this.

    python -m tests.benchmarks

What takes longer is a command of its own, which this prints at the end.
"""

from __future__ import annotations

from tests.benchmarks import fit, rasterizer, stages, unet

EXAMPLE_SECONDS = "45"

THE_REST = """
Measured besides, in more time than this (about 5 minutes for each fit):
  python -m tests.benchmarks.fit examples/robot
  python -m tests.benchmarks.fit GRID ... --motion bones --densification relocation grow-and-prune
  python -m tests.benchmarks.stages GRID --size 128 256 576
Held-out views are those of transforms_test.json in each grid. All of them take --help."""


def main() -> None:
    rasterizer.main([])
    stages.main([])
    unet.main([])
    fit.main(["--seconds", EXAMPLE_SECONDS, "--densification", "relocation", "--no-readme"])
    print(THE_REST)


if __name__ == "__main__":
    main()
