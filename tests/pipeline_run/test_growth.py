"""A shop grows, a title is mended, an item goes: `dvc repro` encodes what is new, `dvc push` sends what is new.

With `tuning: none` and a backbone in a folder of its own the MIRM does not depend on the catalogue. (The tiny backbone
does: its tokenizer is trained on it.)
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.catalog.shop import png
from tests.mirm.shop import backbone_folder

from .project import MINIATURE, Project, merged, new_project

ITEMS = 100
SHOP = {
    "ingest": {"path": "data/raw/shop", "cold_items": "none", "columns": {"caption": None, "summary": None}},
    "finetune_mirm": {"tuning": "none", "backbone": "backbone"},
    "embed_items": {"shard_items": 10},
}
COLOURS = ("red", "green", "blue", "white")


def write(project: Project, titles: dict[int, str]) -> None:
    """Two hundred interactions and more, in which items appear for the first time in the order of their numbers."""
    raw = project.root / "data/raw/shop"
    shutil.rmtree(raw, ignore_errors=True)
    (raw / "images").mkdir(parents=True)
    for colour in COLOURS:
        (raw / "images" / f"{colour}.png").write_bytes(png(60, 60, colour))
    first = [f"u{n % 20},i{n},{n}" for n in titles]
    again = [f"u{n % 19},i{n},{1000 + n}" for n in titles]
    (raw / "interactions.csv").write_text("\n".join(["user,item,timestamp", *first, *again, ""]), "utf-8")
    items = [f"i{n},{title},,{COLOURS[n % 4]}.png" for n, title in titles.items()]
    (raw / "items.csv").write_text("\n".join(["id,title,text,image", *items, ""]), "utf-8")


def repro(project: Project) -> tuple[int, int, set[str]]:
    """(items encoded, items from the cache, names of the shards) of `dvc repro embed_items`."""
    said = project.run(sys.executable, "-m", "dvc", "repro", "embed_items")
    found = re.search(r"encoded ([\d,]+), from cache ([\d,]+)", " ".join(said.split()))
    assert found, said
    shards = {path.name for path in (project.root / "data/embeddings").glob("shard-*")}
    return int(found[1].replace(",", "")), int(found[2].replace(",", "")), shards


def pushed(project: Project, remote: Path) -> list[bytes]:
    """The first four bytes of each file that `dvc push` of the embeddings adds to the remote."""
    before = set(remote.rglob("*"))
    project.dvc("push", "--quiet", "embed_items")
    return [path.read_bytes()[:4] for path in remote.rglob("*") if path.is_file() and path not in before]


@pytest.mark.slow
def test_only_what_is_new_is_encoded_and_pushed(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    shutil.copytree(backbone_folder(), project.root / "backbone")
    project.set_params(merged(MINIATURE, SHOP))
    project.dvc("remote", "add", "--quiet", "--default", "shared", str(tmp_path / "remote"))
    (tmp_path / "remote").mkdir()
    titles = {n: f"Thing number {n}" for n in range(ITEMS)}
    write(project, titles)
    *counts, first = repro(project)
    assert (counts, len(first)) == ([ITEMS, 0], 10)
    assert pushed(project, tmp_path / "remote").count(b"PAR1") == 10

    titles[ITEMS] = f"Thing number {ITEMS}"
    write(project, titles)
    *counts, grown = repro(project)
    assert (counts, len(grown)) == ([1, ITEMS], 11) and first < grown, "one per cent more, one per cent encoded"
    assert pushed(project, tmp_path / "remote").count(b"PAR1") == 1

    titles[42] = "A better title"
    write(project, titles)
    *counts, edited = repro(project)
    assert counts == [1, ITEMS] and len(edited - grown) == 1
    assert pushed(project, tmp_path / "remote").count(b"PAR1") == 1

    del titles[ITEMS]
    write(project, titles)
    *counts, fewer = repro(project)
    assert counts == [0, ITEMS] and fewer < edited
    assert pushed(project, tmp_path / "remote").count(b"PAR1") == 0
