"""Picture files beside a table, in a folder or an archive that is listed once: an id or a url never becomes a path."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pipeline.catalog import archive
from pipeline.catalog.archive import Archive

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")  # of two files with one name, the earlier suffix counts


def pictures_beside(root: Path, *folders: str) -> tuple[dict[str, str], Archive | None]:
    """File name without its suffix -> name, and the archive that holds them; None: names are relative to `root`.

    Of a picture in two of the `folders` the earlier one's counts. `<folder>.zip` or `.tar` may stand in for them;
    inside it pictures may lie in folders of any name. Raises MolarError if there are both, or two archives.
    """
    packed = archive.beside(root, folders)
    if packed is not None:
        return _by_stem(packed.names()), packed
    found: dict[str, str] = {}
    for folder in folders:
        names = [f"{folder}/{path.name}" for path in (root / folder).glob("*")]
        found = _by_stem(names) | found
    return found, None


def _by_stem(names: list[str]) -> dict[str, str]:
    paths = [path for path in map(PurePosixPath, names) if path.suffix in SUFFIXES]
    paths.sort(key=lambda path: (SUFFIXES.index(path.suffix), path), reverse=True)
    return {path.stem: str(path) for path in paths}
