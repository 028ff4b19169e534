"""Where a page, a card or numbers that somebody asked for shall stand: refused before any work where they cannot."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import MolarError


def check_place(path: Path) -> None:
    """Raises MolarError: the file `path` has no folder to stand in, is one itself, or is not this user's to write."""
    if not path.parent.is_dir():
        raise MolarError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise MolarError(f"{path} cannot be written: it is a folder, name a file in it")
    if not os.access(path if path.is_file() else path.parent, os.W_OK):
        raise MolarError(f"{path} cannot be written: this user may not write there")
