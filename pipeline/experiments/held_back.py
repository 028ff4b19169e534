"""What of a run is never sent, because the data it holds may not be passed on.

Three marks say so, each by itself: `runtime.share_data: false` in the params, which presets of such data set; `push:
false` under the out of the raw data's .dvc file; `push: false` under an out in dvc.yaml, which holds that one back. A
mark counts whether the last commit has it or the working tree alone: what has been uploaded cannot be taken back.
"""

from __future__ import annotations

from typing import Any

from pipeline.experiments.committed import Committed
from pipeline.params.load import parsed
from pipeline.params.sharing import HOLDS_DATA


def held_back(values: dict[str, Any], committed: Committed, tree: Committed) -> dict[str, str]:
    """Path of an out, or of raw data -> why it is not sent, of the run with those params."""
    why: str | None = None
    held: dict[str, str] = {}
    if not values["runtime"].get("share_data", True):
        why = "runtime.share_data is false"
    elif committed.shares != tree.shares:
        why = f"runtime.share_data is false{_where(tree.shares)}"
    raw: set[str] = set()
    for files, where in ((committed, ""), (tree, _where(False))):
        for dep in sorted(dep for dep in files.deps(values) if files.has(f"{dep}.dvc")):
            raw.add(dep)
            if _unpushed(parsed(files.text(f"{dep}.dvc"), f"{dep}.dvc")["outs"][0]):
                why = why or f"{dep}.dvc says push: false{where}"
        for stage in files.stages.values():
            for entry in (*stage.get("outs", []), *stage.get("metrics", [])):
                if isinstance(entry, dict):
                    marked = [out for out, about in entry.items() if _unpushed(about)]
                    held = dict.fromkeys(marked, f"dvc.yaml says push: false{where}") | held
    return (dict.fromkeys((*sorted(raw), *HOLDS_DATA), why) if why else {}) | held


def _where(committed: bool) -> str:
    """Which of the two says so, if not both."""
    return " in the last commit" if committed else " in the working tree, not committed"


def _unpushed(about: Any) -> bool:
    return isinstance(about, dict) and about.get("push") is False
