"""Writes the demo world in the raw `tables` format that people bring their own shop in, and its truth apart.

Promise: every factor reaches the raw tables through one channel only (see pipeline/world/process.py), and ids say
nothing about an item. The truth holds all that pipeline/world/oracle.py needs to recompute any choice's
probabilities, and nothing in the raw tables points to it.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.params.demo import Demo
from pipeline.world.pictures import COLOURS, FINISHES, SHAPES, draw_picture
from pipeline.world.process import FACTORS, World, draw_world

CATEGORIES = {  # canonical word, which only `summary` says -> synonyms, which titles use
    "lamp": ("lantern", "torch"),
    "chair": ("stool", "bench"),
    "cup": ("mug", "beaker"),
    "bag": ("satchel", "rucksack"),
    "clock": ("watch", "timer"),
    "shoe": ("boot", "sandal"),
    "hat": ("cap", "beret"),
    "book": ("novel", "diary"),
}
BRANDS = ("alba", "bonto", "corvex", "dunmar", "elvio", "fenwick", "gildan", "hartly")
MATERIALS = ("oak", "wool", "steel", "glass")
COLOUR_NAMES = tuple(COLOURS)
CATEGORY_NAMES = tuple(CATEGORIES)

# Names are two syllables, consonant-vowel and consonant-vowel-consonant: 6,000 of them, more than demo.items may be.
CONSONANTS = "bdflmnprtv"
NAMES = tuple(map("".join, itertools.product(CONSONANTS, "aeiou", CONSONANTS, "aio", "nrlx")))

README = """The demo world's shop, drawn by `molar demo` (params.yaml, section demo): nothing in it is real.

interactions.csv  user, item, timestamp (seconds since 1970, UTC), in order of time
items.csv         id, title, text (empty here), caption (what the picture shows), summary (what the text says),
                  image (below images/), and the attributes brand and material
images/           one PNG per item, named like the item
cold_items.txt    ids of held-out items: nobody chose one, except in each user's last interaction
manifest.json     size and SHA-256 of every file

Your own shop fits the same format; params.yaml, section ingest, maps the names of the columns.
"""


@dataclass(frozen=True)
class Names:
    """Ids and titles, apart from the factors so that nothing about an item can leak into its id."""

    item_ids: list[str]
    user_ids: list[str]
    item_names: list[str]


def write_world(params: Demo, raw: Path, truth: Path) -> World:
    """Draw the world and fill two existing directories: the raw tables and the truth. Returns what was drawn."""
    world = draw_world(params)
    names = _draw_names(params)
    _write_interactions(raw / "interactions.csv", world, names)
    _write_items(raw, world, names, params.seed)
    (raw / "README.txt").write_text(README, "utf-8")
    _write_truth(truth, world, names, params)
    return world


def _draw_names(params: Demo) -> Names:
    rng = np.random.default_rng([params.seed, 3])  # the process has streams 0 to 2
    hexadecimal = rng.choice(16**5, size=params.items, replace=False)
    return Names(
        item_ids=[f"i{number:05x}" for number in hexadecimal],
        user_ids=[f"u{number:0{len(str(params.users))}d}" for number in range(1, params.users + 1)],
        item_names=[NAMES[index] for index in rng.choice(len(NAMES), size=params.items, replace=False)],
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_interactions(path: Path, world: World, names: Names) -> None:
    events = world.events
    order = np.argsort(events.timestamp_E, kind="stable")
    columns = (events.user_E[order].tolist(), events.item_E[order].tolist(), events.timestamp_E[order].tolist())
    rows = ((names.user_ids[u], names.item_ids[i], t) for u, i, t in zip(*columns, strict=True))
    _write_csv(path, ("user", "item", "timestamp"), rows)


def _write_items(raw: Path, world: World, names: Names, seed: int) -> None:
    images = raw / "images"
    images.mkdir()
    rows = []
    for index, item_id in enumerate(names.item_ids):
        category, colour, shape, brand, _community = world.items.factors_NF[index]
        shown = COLOUR_NAMES[colour], SHAPES[shape], FINISHES[world.finish_N[index]]
        # a stream per picture: adding an item leaves every other picture as it was
        (images / f"{item_id}.png").write_bytes(draw_picture(*shown, np.random.default_rng([seed, 4, index])))
        canonical = CATEGORY_NAMES[category]
        rows.append(
            (
                item_id,
                f"{CATEGORIES[canonical][world.synonym_N[index]]} {names.item_names[index]}",
                "",
                " ; ".join(shown),
                canonical,
                f"{item_id}.png",
                BRANDS[brand],
                MATERIALS[world.material_N[index]],
            )
        )
    _write_csv(raw / "items.csv", ("id", "title", "text", "caption", "summary", "image", "brand", "material"), rows)
    cold = [names.item_ids[index] for index in np.flatnonzero(world.items.cold_N)]
    (raw / "cold_items.txt").write_text("".join(f"{item_id}\n" for item_id in cold), "utf-8")


def _write_truth(truth: Path, world: World, names: Names, params: Demo) -> None:
    """{items,events,weights,drift}.parquet: plain columns, so that any Parquet reader shows the truth."""
    items, events = world.items, world.events
    factors = {name: items.factors_NF[:, column] for column, name in enumerate(FACTORS)}
    pq.write_table(
        pa.table(
            {"item_id": names.item_ids, **factors, "log_popularity": items.log_popularity_N, "cold": items.cold_N}
        ),
        truth / "items.parquet",
    )
    states = {f"first_{name}": events.first_EF[:, column] for column, name in enumerate(FACTORS)}
    states |= {f"second_{name}": events.second_EF[:, column] for column, name in enumerate(FACTORS)}
    columns = {
        "user_id": [names.user_ids[user] for user in events.user_E],
        "step": events.step_E,
        "item": events.item_E,  # row of items.parquet
        "cold": events.cold_E,
    }
    pq.write_table(pa.table(columns | states), truth / "events.parquet")
    values = params.weights.model_dump()
    pq.write_table(pa.table({"name": list(values), "value": list(values.values())}), truth / "weights.parquet")
    pq.write_table(pa.table({"drift": [params.drift]}), truth / "drift.parquet")
