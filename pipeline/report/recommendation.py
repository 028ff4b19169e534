"""One recommendation as people see it: names resolved, a table for the terminal, the cards of a page."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.catalog.catalogue import Items
from pipeline.errors import MolarError

NEAR = 3  # near matches that a message offers
SHOWN_HISTORY = 10  # latest items that the terminal lists


@dataclass(frozen=True)
class Card:
    """An item on show: `score` is None in a history, `image` None where there is no picture."""

    title: str
    item_id: str
    details: str
    score: float | None
    image: bytes | None


def find_user(user_ids: Sequence[str], wanted: str) -> int:
    """The user's row. Raises MolarError with near matches."""
    try:
        return list(user_ids).index(wanted)
    except ValueError:
        raise MolarError(f"no user {wanted!r}{_near(wanted, user_ids)}") from None


def find_items(items: Items, wanted: Sequence[str]) -> NDArray[np.int32]:
    """Item indices (L,) int32 of ids or titles, in the order given.

    Each entry may hold several, separated by commas; a title may hold commas itself ("Matrix, The"), so the longest
    run of parts that names an item is taken. Ids win over titles; titles are compared without regard to case.
    Raises MolarError for a name that no item has (with near matches) or that several titles share.
    """
    by_id = {item_id: idx for idx, item_id in enumerate(items.item_ids)}
    by_title: dict[str, list[int]] = {}
    for idx, title in enumerate(items.titles):
        if title is not None:
            by_title.setdefault(title.casefold(), []).append(idx)
    return np.array([idx for entry in wanted for idx in _entry(entry, by_id, by_title, items)], np.int32)


def cards(items: Items, indices: Sequence[int], scores: Sequence[float] | None, pictures: bool) -> list[Card]:
    """What to show of some items, in order. `pictures` False leaves them unread."""
    return [
        Card(
            title=items.titles[idx] or items.item_ids[idx],
            item_id=items.item_ids[idx],
            details=", ".join(items.attributes[idx].values()),
            score=None if scores is None else float(scores[place]),
            image=items.image_bytes(int(idx)) if pictures else None,
        )
        for place, idx in enumerate(indices)
    ]


def terminal(who: str, history: Sequence[Card], recommended: Sequence[Card]) -> Group:
    """The history in brief, then the ranked table."""
    above = Text(f"{who} chose {len(history)} item{'s' if len(history) != 1 else ''}")
    above.append(", the latest last:\n" if len(history) > 1 else ":\n")
    for card in history[-SHOWN_HISTORY:]:
        above.append(f"  {card.title}\n", style="dim")
    table = Table(title="recommended next", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("title")
    table.add_column("details", style="dim")
    table.add_column("id", style="dim")
    table.add_column("score", justify="right")
    for rank, card in enumerate(recommended, 1):
        table.add_row(str(rank), Text(card.title), Text(card.details), Text(card.item_id), f"{card.score:.3f}")
    return Group(above, table)


def _entry(entry: str, by_id: Mapping[str, int], by_title: Mapping[str, list[int]], items: Items) -> list[int]:
    """The items that one entry names: greedy, longest run of comma-separated parts first."""
    parts = entry.split(",")
    found, start = [], 0
    while start < len(parts):
        for stop in range(len(parts), start, -1):
            name = ",".join(parts[start:stop]).strip()
            idx = _named(name, by_id, by_title, items)
            if idx is not None:
                found.append(idx)
                start = stop
                break
        else:
            name = parts[start].strip()
            known = [*by_title, *by_id]
            titles = {title.casefold(): title for title in items.titles if title is not None}
            raise MolarError(f"no item has the id or title {name!r}{_near(name, known, titles)}")
    return found


def _named(name: str, by_id: Mapping[str, int], by_title: Mapping[str, list[int]], items: Items) -> int | None:
    if name in by_id:
        return by_id[name]
    same = by_title.get(name.casefold(), [])
    if len(same) > 1:
        ids = ", ".join(items.item_ids[idx] for idx in same[:5])
        raise MolarError(
            f"{len(same)} items have the title {name!r}: use an id ({ids}{', ...' if len(same) > 5 else ''})"
        )
    return same[0] if same else None


def _near(wanted: str, known: Sequence[str], shown: Mapping[str, str] | None = None) -> str:
    """The end of a message: what the reader may have meant."""
    near = difflib.get_close_matches(wanted.casefold() if shown else wanted, known, n=NEAR, cutoff=0.6)
    names = [(shown or {}).get(name, name) for name in near]
    return f": did you mean {' or '.join(repr(name) for name in names)}?" if names else ": nothing is spelled like it"
