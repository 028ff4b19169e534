"""MOLAR_DEVICES: the devices that rows are computed on at once, as in `cuda:0,cuda:1` or `cpu,cpu`; a row on each.

A stage knows `cpu` and `cuda` (the `runtime` section). Which GPU is told by CUDA_VISIBLE_DEVICES, which torch, FAISS
and every process that a stage starts follow alike; if it is set already, `cuda:1` is the second of those that it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pipeline.errors import MolarError

DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")


def devices() -> list[str]:
    """In the order of the variable; none where it is not set. Raises MolarError: it names something else."""
    value = os.environ.get("MOLAR_DEVICES", "")
    named = [name.strip() for name in value.split(",")] if value.strip() else []
    for name in named:
        if not DEVICE.fullmatch(name):
            raise MolarError(
                f"MOLAR_DEVICES = {value!r}: a device for each row at once, as in cuda:0,cuda:1 or cpu,cpu"
            )
        environment_of(name)
    return named


def labels(named: Sequence[str]) -> list[str]:
    """A name for each device of several, also where they are the same; none for one alone."""
    if len(named) < 2:
        return [""]
    return [name if named.count(name) == 1 else f"{name} {number}" for number, name in enumerate(named, 1)]


def environment_of(device: str) -> dict[str, str]:
    """What a stage must find in its environment to compute there. Raises MolarError: that GPU is not visible."""
    found = DEVICE.fullmatch(device)
    if found is None or found[1] is None:
        return {"MOLAR_DEVICE": device}
    visible, number = os.environ.get("CUDA_VISIBLE_DEVICES"), int(found[1])
    if visible is None:
        return {"MOLAR_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": str(number)}
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if number >= len(names):
        raise MolarError(f"MOLAR_DEVICES names {device}, but CUDA_VISIBLE_DEVICES = {visible!r} shows {len(names)}")
    return {"MOLAR_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": names[number]}
