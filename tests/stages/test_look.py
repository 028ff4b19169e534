"""`molar look` end to end over a small catalogue with hand-made embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.catalog.build import build
from pipeline.mirm.shards import write_conditioning, write_embeddings
from pipeline.report import geometry
from stages import look
from stages.paths import CATALOG, EMBEDDINGS
from tests.catalog.shop import ingest_params, write_shop

ITEMS = """id,title,text,image,brand
a,Apple,A fruit,a.png,Orchard
b,<script>Boot,,b.png,Orchard
c,Cup,A vessel,,Potter
d,Dial,Never chosen,,
"""
RAW_ND = np.array([[9, 1, 0], [9, 1, 0], [9, -1, 1], [9, -1, -1]], np.float32)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder with data/catalog (item d is cold) and data/embeddings; b is a's twin."""
    monkeypatch.chdir(tmp_path)
    with artifacts.write(CATALOG) as out:
        build(ingest_params(write_shop(Path("raw"), items=ITEMS), keep_unseen_items=True), out)
    embeddings(RAW_ND)
    return tmp_path


def embeddings(rows_ND):
    with artifacts.write(EMBEDDINGS) as out:
        write_embeddings(out, rows_ND, "float32", 2)
        write_conditioning(out, rows_ND.mean(axis=0), np.eye(rows_ND.shape[1]))


def test_the_table_stands_before_and_after_conditioning(shop, capsys):
    look.main(json=Path("numbers.json"))
    words = " ".join(capsys.readouterr().out.split())
    assert "4 items, 1 of them cold" in words and "neighbours of the same brand" in words
    found = json.loads(Path("numbers.json").read_text())
    assert found["items"] == found["queries"] == 4 and found["attribute"] == "brand"
    assert found["raw"]["mean_cosine"] > 0.9 > 0 > found["conditioned"]["mean_cosine"]
    assert found["raw"]["near_duplicates"] == found["conditioned"]["near_duplicates"] == 0.5
    assert found["raw"]["exact_duplicates"] == 0.5


def test_gallery_and_map_are_written(shop, capsys):
    look.main(gallery=Path("g.html"), plot=Path("m.html"))
    gallery, item_map = Path("g.html").read_text(), Path("m.html").read_text()
    assert (
        gallery.count('<section class="near">') == 4 and gallery.count("<li>") == 12
    )  # all others, where ten are not there
    assert gallery.count('class="cold"') == 4 and "cosine 1.000" in gallery
    assert item_map.count("<circle") == 4 and "coloured by brand" in item_map
    assert "<script" not in gallery + item_map
    first = gallery, item_map
    look.main(gallery=Path("g.html"), plot=Path("m.html"))
    assert (Path("g.html").read_text(), Path("m.html").read_text()) == first
    assert "gallery -> g.html" in capsys.readouterr().err


def test_named_items_are_the_gallery(shop):
    look.main(gallery=Path("g.html"), items=["cup, a"], k=2)
    sections = Path("g.html").read_text().split('<section class="near">')[1:]
    assert ["Cup" in sections[0].split("<ol")[0], "Apple" in sections[1].split("<ol")[0]] == [True, True]
    assert [section.count("<li>") for section in sections] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"items": ["a"]}, "--items chooses what the gallery shows: give --gallery FILE.html with it"),
        ({"items": ["Cupp"], "gallery": Path("g.html")}, "no item has the id or title 'Cupp': did you mean 'Cup'?"),
        ({"by": "colour"}, "no item has an attribute 'colour'; there is brand"),
        ({"plot": Path("no/m.html")}, "no/m.html cannot be written: there is no folder no"),
    ],
)
def test_mistakes_are_one_line(shop, capsys, arguments, message):
    with pytest.raises(SystemExit):
        look.main(**arguments)
    assert f"error: {message}" in capsys.readouterr().err
    assert not Path("g.html").exists()


def test_a_large_catalogue_is_sampled_and_the_table_says_so(shop, capsys, monkeypatch):
    monkeypatch.setattr(geometry, "LEAST", 1)
    monkeypatch.setattr(geometry, "PAIRS", 12)
    look.main()
    said = capsys.readouterr()
    assert "neighbours of 3 drawn with seed 0" in " ".join(said.out.split())
    assert "look: neighbours of 3 of 4 items are sought" in said.err


def test_embeddings_of_another_catalogue_are_refused(shop, capsys):
    embeddings(RAW_ND[:3])
    with pytest.raises(SystemExit):
        look.main()
    message = "error: data/embeddings holds 3 items and data/catalog 4: run `dvc repro embed_items`"
    assert message in capsys.readouterr().err


def test_a_reader_who_has_gone_keeps_nothing_from_being_written(shop, monkeypatch):
    def gone(*_):
        raise BrokenPipeError

    monkeypatch.setattr(look, "table", gone)  # made where it is printed
    with pytest.raises(BrokenPipeError):
        look.main(json=Path("numbers.json"))
    assert json.loads(Path("numbers.json").read_text())
