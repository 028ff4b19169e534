"""Outs that hold a source's own words, ratings and pictures, and their mark in dvc.yaml: `push: false`.

DVC's templating reads no param there (3.67: `push: ${...}` is refused, for it wants a boolean before it looks), so
`molar preset --write` writes the mark itself for data that may not be passed on. Then plain `dvc push` respects it.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

HOLDS_DATA = ("data/catalog",)


def hold_back(root: Path, raw: str) -> list[str]:
    """Mark those outs in dvc.yaml, and the raw data in its .dvc file if it has one; the files that this has changed."""
    changed = []
    for path, paths in ((root / "dvc.yaml", HOLDS_DATA), (root / f"{raw}.dvc", (Path(raw).name,))):
        if path.is_file() and (text := marked(path.read_text("utf-8"), paths)):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(text, "utf-8")
            partial.replace(path)
            changed.append(path.relative_to(root).as_posix())
    return changed


def marked(text: str, paths: tuple[str, ...]) -> str | None:
    """A dvc.yaml or .dvc file with `push: false` under those outs; None if it says so already."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    document = yaml.load(text)
    pipeline = "stages" in document
    if pipeline:
        yaml.indent(mapping=2, sequence=4, offset=2)
    changed = False
    for entry in document["stages"].values() if pipeline else [document]:
        for index, out in enumerate(entry.get("outs", [])):
            if out in paths:
                entry["outs"][index] = {out: {"push": False}}
                changed = True
                continue
            about = out if not pipeline else next(iter(out.values()), None) if isinstance(out, dict) else None
            path = out.get("path") if not pipeline else next(iter(out), None) if isinstance(out, dict) else None
            if about is not None and path in paths and about.get("push") is not False:
                about["push"] = False
                changed = True
    if not changed:
        return None
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()
