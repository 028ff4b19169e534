"""The raw tables: one channel per factor, nothing leaks, equal seeds give equal bytes."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.world import tables
from pipeline.world.pictures import COLOURS, FINISHES, SHAPES
from pipeline.world.process import FACTORS
from pipeline.world.tables import BRANDS, CATEGORIES, MATERIALS, NAMES
from tests.world.conftest import SMALL, Drawn, draw

TINY = SMALL.model_copy(update={"users": 60, "items": 40, "cold_items": 6})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def manifests(drawn: Drawn) -> tuple[object, object]:
    raw, truth = (json.loads((folder / "manifest.json").read_text("utf-8")) for folder in (drawn.raw, drawn.truth))
    return raw, truth


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    """Both outs, down to the last byte: what lets DVC's cache recognise the world."""
    once, again = draw(TINY, tmp_path / "a"), draw(TINY, tmp_path / "b")
    other = draw(TINY.model_copy(update={"seed": TINY.seed + 1}), tmp_path / "c")
    assert manifests(once) == manifests(again)
    for mine, theirs in zip(manifests(once), manifests(other), strict=True):
        assert mine != theirs


def test_more_users_leave_the_items_alone(tmp_path: Path) -> None:
    few, many = draw(TINY, tmp_path / "a"), draw(TINY.model_copy(update={"users": 90}), tmp_path / "b")
    assert (few.raw / "items.csv").read_bytes() == (many.raw / "items.csv").read_bytes()


def test_tables_have_the_raw_format(drawn: Drawn) -> None:
    items, interactions = rows(drawn.raw / "items.csv"), rows(drawn.raw / "interactions.csv")
    assert list(items[0]) == ["id", "title", "text", "caption", "summary", "image", "brand", "material"]
    assert list(interactions[0]) == ["user", "item", "timestamp"]
    ids = [item["id"] for item in items]
    assert len(set(ids)) == len(ids) == drawn.params.items
    assert len({item["title"] for item in items}) == len(items)
    assert {f"images/{item['image']}" for item in items} == {
        f"images/{p.name}" for p in (drawn.raw / "images").iterdir()
    }
    times = [int(row["timestamp"]) for row in interactions]
    assert times == sorted(times)
    assert len({row["user"] for row in interactions}) == drawn.params.users
    assert {row["item"] for row in interactions} <= set(ids)
    cold = (drawn.raw / "cold_items.txt").read_text("utf-8").split()
    assert set(cold) == {ids[index] for index in np.flatnonzero(drawn.world.items.cold_N)}


def test_interactions_are_the_events(drawn: Drawn) -> None:
    ids = [item["id"] for item in rows(drawn.raw / "items.csv")]
    histories: dict[str, list[str]] = {}
    for row in rows(drawn.raw / "interactions.csv"):
        histories.setdefault(row["user"], []).append(row["item"])
    events = drawn.world.events
    for user, history in zip(range(drawn.params.users), (histories[name] for name in sorted(histories)), strict=True):
        assert history == [ids[item] for item in events.item_E[events.user_E == user]]


def words(*texts: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", " ".join(texts).lower()))


def test_each_factor_shows_in_one_channel_only(drawn: Drawn) -> None:
    """Caption and summary are fine-tuning targets, never inputs; the input channels share no word."""
    synonyms = {word for pair in CATEGORIES.values() for word in pair}
    for item in rows(drawn.raw / "items.csv"):
        text = words(item["title"], item["text"])
        attributes = words(item["brand"], item["material"])
        picture = words(item["caption"])
        assert picture <= {*COLOURS, *SHAPES, *FINISHES} and len(picture) == 3
        assert len(text & synonyms) == 1 and not text & set(CATEGORIES)
        assert not text & (attributes | picture)
        assert not attributes & (picture | synonyms | set(CATEGORIES))
        assert item["summary"] in CATEGORIES and not words(item["summary"]) & (text | attributes | picture)
        assert item["brand"] in BRANDS and item["material"] in MATERIALS
        assert not words(item["id"], item["image"]) & (synonyms | set(CATEGORIES) | set(COLOURS) | set(BRANDS))


def test_the_vocabularies_are_disjoint() -> None:
    synonyms = [word for pair in CATEGORIES.values() for word in pair]
    everything = [*COLOURS, *SHAPES, *FINISHES, *BRANDS, *MATERIALS, *CATEGORIES, *synonyms]
    assert len(set(everything)) == len(everything)
    assert not set(everything) & set(NAMES)
    assert len(set(NAMES)) == len(NAMES) == 6000  # the bound of demo.items
    sizes = dict(category=len(CATEGORIES), colour=len(COLOURS), shape=len(SHAPES), brand=len(BRANDS))
    assert sizes == {name: count for name, count in FACTORS.items() if name != "community"}


def test_tables_say_what_the_factors_are(drawn: Drawn) -> None:
    names = {"brand": BRANDS, "summary": list(CATEGORIES)}
    for item, factors in zip(rows(drawn.raw / "items.csv"), drawn.world.items.factors_NF, strict=True):
        category, colour, shape, brand, _ = factors
        assert item["brand"] == names["brand"][brand]
        assert item["summary"] == names["summary"][category]
        assert item["title"].split()[0] in CATEGORIES[item["summary"]]
        assert item["caption"].split(" ; ")[:2] == [list(COLOURS)[colour], SHAPES[shape]]


@pytest.mark.parametrize(
    ("factor", "channels"),
    [
        ("category", {"title", "summary"}),
        ("colour", {"caption", "pictures"}),
        ("shape", {"caption", "pictures"}),
        ("brand", {"brand"}),
        ("community", set()),
    ],
)
def test_a_factor_reaches_no_other_channel(
    factor: str, channels: set[str], drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same world with one factor of every item changed differs in that factor's channel and nowhere else."""
    world, column = drawn.world, list(FACTORS).index(factor)
    factors_NF = world.items.factors_NF.copy()
    factors_NF[:, column] = (factors_NF[:, column] + 1) % FACTORS[factor]
    other = replace(world, items=replace(world.items, factors_NF=factors_NF))
    monkeypatch.setattr(tables, "draw_world", lambda params: other)
    changed = draw(drawn.params, tmp_path)
    before, after = rows(drawn.raw / "items.csv"), rows(changed.raw / "items.csv")
    differ = {name for name in before[0] if any(b[name] != a[name] for b, a in zip(before, after, strict=True))}
    pictures = [sorted(p.read_bytes() for p in (folder.raw / "images").iterdir()) for folder in (drawn, changed)]
    if pictures[0] != pictures[1]:
        differ.add("pictures")
    assert differ == channels
    for name in ("interactions.csv", "cold_items.txt", "README.txt"):
        assert (drawn.raw / name).read_bytes() == (changed.raw / name).read_bytes()


@pytest.mark.parametrize("factor", list(FACTORS))
def test_row_order_and_ids_tell_no_factor(drawn: Drawn, factor: str) -> None:
    values = drawn.world.items.factors_NF[:, list(FACTORS).index(factor)]
    ids = [int(item["id"][1:], 16) for item in rows(drawn.raw / "items.csv")]
    assert abs(np.corrcoef(ids, values)[0, 1]) < 0.3
    assert abs(np.corrcoef(np.arange(len(values)), values)[0, 1]) < 0.3
