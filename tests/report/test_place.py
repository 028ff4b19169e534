"""A file that somebody asked for has a folder to stand in and is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.report.place import check_place
from tests.catalog.shop import refusal


def test_what_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pages").mkdir()
    check_place(Path("new.html"))
    check_place(Path("pages/new.html"))
    assert not list(tmp_path.rglob("*.html")), "nothing is touched"
    assert refusal(lambda: check_place(Path("no/m.html"))) == "no/m.html cannot be written: there is no folder no"
    assert refusal(lambda: check_place(Path("pages"))) == ("pages cannot be written: it is a folder, name a file in it")
    monkeypatch.setattr("os.access", lambda path, mode: path != Path("pages"))
    check_place(Path("new.html"))
    assert refusal(lambda: check_place(Path("pages/new.html"))) == (
        "pages/new.html cannot be written: this user may not write there"
    )
