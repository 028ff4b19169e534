"""What of a run is never sent, because the data it holds may not be passed on.

Three marks say so, each by itself: `runtime.share_data: false` in the params, which presets of such data set; `push:
false` under the out of the raw data's .dvc file; `push: false` under an out in dvc.yaml, which holds that one back.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML

from pipeline.experiments.committed import Committed, resolved
from pipeline.experiments.points import Point
from pipeline.params.sharing import HOLDS_DATA


def held_back(point: Point, committed: Committed) -> dict[str, str]:
    """Path of an out, or of raw data -> why it is not sent."""
    raw = {resolved(dep, point.values) for stage in committed.stages.values() for dep in stage.get("deps", [])}
    raw = {dep for dep in raw if f"{dep}.dvc" in committed.blobs}
    why = None if point.values["runtime"].get("share_data", True) else "runtime.share_data is false"
    for dep in sorted(raw):
        if _unpushed(YAML(typ="safe").load(committed.text(f"{dep}.dvc"))["outs"][0]):
            why = why or f"{dep}.dvc says push: false"
    held = dict.fromkeys((*sorted(raw), *HOLDS_DATA), why) if why else {}
    for stage in committed.stages.values():
        for entry in (*stage.get("outs", []), *stage.get("metrics", [])):
            if isinstance(entry, dict):
                held |= {out: "dvc.yaml says push: false" for out, about in entry.items() if _unpushed(about)}
    return held


def _unpushed(about: Any) -> bool:
    return isinstance(about, dict) and about.get("push") is False
