"""What people call users and items, as rows: ids or titles in, numbers out, and near matches where nothing fits."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MolarError

NEAR = 3  # near matches that a message offers


class Named(Protocol):
    """Items by number (`pipeline.catalog.catalogue.Items` are some)."""

    item_ids: list[str]
    titles: list[str | None]


def find_user(user_ids: Sequence[str], wanted: object) -> int:
    """The user's row; an id that is no string, a number or a scalar of Arrow's, is taken by its text.

    Raises MolarError with near matches.
    """
    name = str(wanted)
    try:
        return list(user_ids).index(name)
    except ValueError:
        raise MolarError(f"no user {name!r}{near(name, user_ids)}") from None


def find_items(items: Named, wanted: Sequence[str]) -> NDArray[np.int32]:
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


def _entry(entry: str, by_id: Mapping[str, int], by_title: Mapping[str, list[int]], items: Named) -> list[int]:
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
            raise MolarError(f"no item has the id or title {name!r}{near(name, known, titles)}")
    return found


def _named(name: str, by_id: Mapping[str, int], by_title: Mapping[str, list[int]], items: Named) -> int | None:
    if name in by_id:
        return by_id[name]
    same = by_title.get(name.casefold(), [])
    if len(same) > 1:
        ids = ", ".join(items.item_ids[idx] for idx in same[:5])
        raise MolarError(
            f"{len(same)} items have the title {name!r}: use an id ({ids}{', ...' if len(same) > 5 else ''})"
        )
    return same[0] if same else None


def near(wanted: str, known: Sequence[str], shown: Mapping[str, str] | None = None) -> str:
    """The end of a message: what the reader may have meant."""
    found = difflib.get_close_matches(wanted.casefold() if shown else wanted, known, n=NEAR, cutoff=0.6)
    names = [(shown or {}).get(name, name) for name in found]
    return f": did you mean {' or '.join(repr(name) for name in names)}?" if names else ": nothing is spelled like it"
