"""The neighbour gallery: an item's picture and, beside it, the items that its embedding is closest to, on one page.

A reader judges here what no number tells: whether near means alike, and in what (a shape, a colour, a word, a brand).
Each item shows its picture, or its words in a box where it has none, then its title, its attributes and its cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog.catalogue import Items
from pipeline.report.page import document, picture

WORDS = 160  # characters of an item's text that stand in for its picture

WIDE = "body { max-width: 104rem; }"
STYLE = """
.near { display: grid; grid-template-columns: minmax(0, 1.5fr) minmax(0, 10fr); gap: .9rem; align-items: start;
  padding: 1.1rem 0; border-top: 1px solid var(--line); }
p + .near { margin-top: 1.25rem; }
.neighbours { grid-template-columns: repeat(10, minmax(0, 1fr)); gap: .6rem; }
.query { border: 2px solid var(--accent); border-radius: .6rem; overflow: hidden; background: var(--card); }
.frame.said { padding: .5rem; font-size: .78rem; overflow: hidden; overflow-wrap: anywhere; text-align: center; }
.near .words { padding: .4rem .5rem .5rem; font-size: .85rem; }
.near .details { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden; }
.cold { color: var(--accent); font-weight: 600; }
@media (max-width: 75rem) { .neighbours { grid-template-columns: repeat(5, minmax(0, 1fr)); }
  .near { grid-template-columns: minmax(0, 1fr) minmax(0, 5fr); } }
@media (max-width: 40rem) { .near { grid-template-columns: 1fr; } .query { max-width: 14rem; }
  .neighbours { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


@dataclass(frozen=True)
class Tile:
    """One item on show; `note` is the line below its attributes, `words` stand where there is no picture."""

    title: str
    details: str
    note: str
    words: str
    image: bytes | None
    cold: bool


@dataclass(frozen=True)
class Row:
    """A query and its neighbours, nearest first."""

    query: Tile
    neighbours: list[Tile]


def spread(counts_N: NDArray[np.integer], number: int, seed: int) -> NDArray[np.int64]:
    """Indices (min(number, N),) spread over popularity, most popular first: the items, ordered by their training
    interactions, fall into `number` equal parts, and each gives one at random. Items never trained on, cold ones
    included, are at the end of the order."""
    order_N = np.argsort(-counts_N, kind="stable")
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(part) for part in np.array_split(order_N, min(number, len(order_N)))], np.int64)


def rows(
    items: Items,
    queries: NDArray[np.integer],
    found_QK: NDArray[np.integer],
    cosines_QK: NDArray[np.floating],
    counts_N: NDArray[np.integer],
    num_warm: int,
) -> list[Row]:
    """What the page shows of `geometry.neighbours`; items from `num_warm` on are cold."""

    def tile(idx: int, note: str) -> Tile:
        title = items.titles[idx] or items.item_ids[idx]
        return Tile(
            title=title,
            details=", ".join(items.attributes[idx].values()),
            note=note,
            words=_shortened(items.texts[idx] or title),
            image=items.image_bytes(idx),
            cold=idx >= num_warm,
        )

    return [
        Row(
            tile(query, f"training interactions: {counts_N[query]:,}"),
            [tile(int(i), f"cosine {cosine:.3f}") for i, cosine in zip(found, cosines, strict=True)],
        )
        for query, found, cosines in zip(map(int, queries), found_QK, cosines_QK, strict=True)
    ]


def page(about: str, shown: Sequence[Row]) -> str:
    """The page's HTML; `about` says in words what was drawn and among what."""
    return document("Nearest neighbours", f"<p>{escape(about)}</p>\n{sections(shown)}", WIDE + STYLE)


def sections(shown: Sequence[Row]) -> str:
    """The rows alone, for a page that has STYLE."""
    return "\n".join(
        f'<section class="near">\n<div class="query">{_tile(row.query)}</div>\n<ol class="neighbours">\n'
        + "\n".join(f"<li>{_tile(tile)}</li>" for tile in row.neighbours)
        + "\n</ol>\n</section>"
        for row in shown
    )


def _tile(tile: Tile) -> str:
    lines = [f'<div class="title">{escape(tile.title)}</div>']
    if tile.details:
        lines.append(f'<div class="details">{escape(tile.details)}</div>')
    cold = ' <span class="cold">cold</span>' if tile.cold else ""
    lines.append(f'<div class="score">{escape(tile.note)}{cold}</div>')
    frame = "frame" if tile.image is not None else "frame said"
    return f'<div class="{frame}">{picture(tile.image, tile.words)}</div><div class="words">{"".join(lines)}</div>'


def _shortened(words: str) -> str:
    return words if len(words) <= WORDS else words[: WORDS - 1].rstrip() + "…"
