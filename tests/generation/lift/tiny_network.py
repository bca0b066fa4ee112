"""The network of lift at its smallest size."""

from dataclasses import replace

from generation.lift.network import LiftConfig

TINY_LIFT = replace(LiftConfig(), size=32, widths=(32,) * len(LiftConfig().widths))
