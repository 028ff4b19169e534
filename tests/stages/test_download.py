"""`molar download` from the command line: one line for every mistake, and the data where ingest looks for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.catalog import download
from stages.cli import app

from ..catalog.publisher import Publisher, only_this_machine, publishing, zipped

JPEG = b"\xff\xd8\xff\xe0" + b"j" * 50
FILES = {"ml-100k/u.data": b"1\t1\t5\t9\n", "ml-100k/u.item": b"1|Toy Story (1995)|||||1\n"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_this_machine(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing() as server:
        yield server


def molar(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `molar download ...`."""
    result = CliRunner().invoke(app, ["download", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_without_a_name_it_lists_what_there_is() -> None:
    code, out, _ = molar()
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(download.NAMES)


def test_pixelrec_is_explained_and_nothing_is_fetched() -> None:
    code, out, _ = molar("pixelrec")
    assert (code, out) == (0, download.PIXELREC)
    assert list(Path().iterdir()) == []


def test_a_data_set_ends_where_its_preset_looks(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.files["/ml-100k.zip"] = zipped(FILES)
    here = download.Published("ml-100k", (publisher.url("/ml-100k.zip"),), True, "licence: ask")
    monkeypatch.setitem(download.MOVIELENS, "movielens-100k", here)
    code, _, said = molar("movielens-100k")
    assert code == 0
    assert (Path("data/raw/ml-100k") / "u.data").read_bytes() == FILES["ml-100k/u.data"]
    assert said.splitlines()[0] == "licence: ask"
    assert re.search(r"download: movielens-100k in \d+ s -> data/raw/ml-100k\n", said)
    assert said.splitlines()[-1].startswith("next: dvc add data/raw/ml-100k")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["movielens-1m"], "cannot be reached (host name not found): check the network or proxy"),
        (["movielens"], "no data set 'movielens' to download (there are: movielens-100k, "),
        (["amazon-2023"], "amazon-2023 comes by category, it needs --category: All_Beauty, "),
        (["movielens-1m", "--limit", "3"], "--workers and --limit go with `molar download images` alone"),
        (["pixelrec", "--category", "Books"], "--category goes with amazon-2023 alone"),
        (["images", "--category", "Books"], "--category goes with amazon-2023 alone"),
        (["images"], "params.yaml not found: run from the project's root"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], line: str) -> None:
    code, out, said = molar(*arguments)
    assert (code, out) == (1, "")
    assert said.splitlines()[-1].startswith("error: ") and line in said.splitlines()[-1]


def test_images_of_the_data_set_that_ingest_reads(
    publisher: Publisher, params_file: Callable[[dict[str, Any]], Path]
) -> None:
    publisher.files["/1"] = JPEG
    root = Path("data/raw/ml-1m")
    root.mkdir(parents=True)
    (root / "movie_posters.csv").write_text(f"1,{publisher.url('/1')}\n2,{publisher.url('/2')}\n", "utf-8")
    params_file({"ingest": {"source": "movielens", "path": str(root)}})
    code, _, said = molar("images", "--workers", "2")
    assert code == 0
    assert sorted(path.name for path in (root / "images").iterdir()) == ["1.jpg", "failed.csv"]
    lines = said.splitlines()
    assert lines[:2] == ["  1 fetched, 0 were there already, 1 failed", "    1 x the server answered 404 Not Found"]
    assert re.fullmatch(r"download: 1 pictures in \d+ s -> data/raw/ml-1m/images", lines[-1])
