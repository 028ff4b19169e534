"""Picture files that lie beside a table, found by listing their folder once: an id or a url never becomes a path."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")  # of two files with one name, the earlier suffix counts


def picture_files(root: Path, folder: str) -> dict[str, str]:
    """File name without its suffix -> name relative to `root`; empty if there is no such folder."""
    paths = [path for path in sorted((root / folder).glob("*")) if path.suffix in SUFFIXES]
    paths.sort(key=lambda path: -SUFFIXES.index(path.suffix))
    return {path.stem: f"{folder}/{path.name}" for path in paths}
