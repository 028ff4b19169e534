"""Outs that hold a source's own words, ratings and pictures, and their mark in DVC's files: `push: false`.

DVC's templating reads no param there (3.67: `push: ${...}` is refused, for a boolean is asked for before it is filled
in, and so is a whole out as `${...}`), so `molar preset --write` writes the mark itself for data that may not be passed
on. Then plain `dvc push` leaves it out as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.errors import MolarError

HOLDS_DATA = ("data/catalog",)


def hold_back(root: Path, raw: str) -> list[str]:
    """Mark those outs in dvc.yaml, and the raw data in its .dvc file if it has one; the files that this has changed.

    Raises MolarError: a file is written so that the mark must be put there by hand.
    """
    changed = []
    for name, outs in (("dvc.yaml", HOLDS_DATA), (f"{raw}.dvc", (Path(raw).name,))):
        path = root / name
        before = path.read_text("utf-8") if path.is_file() else ""
        after = before
        for out in outs:
            after = marked(after, out, name)
        if after != before:
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(after, "utf-8")
            partial.replace(path)
            changed.append(name)
    return changed


def marked(text: str, out: str, name: str) -> str:
    """A dvc.yaml or .dvc file with `push: false` under that out, and every other byte as it was."""
    if not _pushed(text, out):
        return text
    entry = rf"^( +)- {re.escape(out)}:?[ \t]*$"  # of dvc.yaml
    text = re.sub(entry, rf"\1- {out}:\n\1    push: false", text, flags=re.MULTILINE)
    key = rf"^([ -]+)path: {re.escape(out)}[ \t]*$"  # of a .dvc file
    text = re.sub(key, lambda found: f"{found[0]}\n{' ' * len(found[1])}push: false", text, flags=re.MULTILINE)
    if _pushed(text, out):
        raise MolarError(f"{name}: write `push: false` under {out} by hand: its licence forbids to pass it on")
    return text


def _pushed(text: str, out: str) -> bool:
    """Whether the file has that out and pushes it."""
    document: Any = YAML(typ="safe").load(text) or {}
    listed = [entry for stage in document.get("stages", {}).values() for entry in stage.get("outs", [])]
    listed = [entry if isinstance(entry, dict) else {entry: {}} for entry in listed]
    abouts = [entry[out] for entry in listed if out in entry]
    abouts += [entry for entry in document.get("outs", []) if entry.get("path") == out]
    return any(about.get("push") is not False for about in abouts)
