"""The whole of `select` once more in plain Python, over rows: filters, splits, cold items. What tests compare with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from pipeline.catalog import build, held_out
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Interactions, Raw, RawItem
from pipeline.params.ingest import Ingest

ITEMS = "abcdefgh"
LISTED = {"g", "h"}
USERS = "pqrstu"


class Row(NamedTuple):
    user: str
    item: str
    time: int
    rating: float


@dataclass
class Parts:
    """Rows of each part, as positions in the file, in time order. `cold`: choices of held-out or new items."""

    training: list[int] = field(default_factory=list)
    validation: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)
    cold: list[int] = field(default_factory=list)

    def rows(self) -> list[int]:
        return sorted(self.training + self.validation + self.test + self.cold)


class EmptyError(Exception):
    """A filter or a split left nothing."""


def raw_of(rows: list[Row]) -> Raw:
    items = [
        RawItem(name, row, title=f"title {name}", caption=f"seen {name}", summary=f"said {name}", image=f"{name}.png")
        for row, name in enumerate(ITEMS, 2)
    ]
    events = Interactions(
        user=np.array([USERS.index(row.user) for row in rows], np.int32),
        item=np.array([ITEMS.index(row.item) for row in rows], np.int32),
        timestamp=np.array([row.time for row in rows], np.int64),
        rating=np.array([row.rating for row in rows], np.float64),
        row=np.arange(2, len(rows) + 2),
        user_ids=list(USERS),
        item_ids=list(ITEMS),
    )
    return Raw(Path("raw"), items, events, "items.csv", "interactions.csv", {"interactions.csv": len(rows)})


def selected(rows: list[Row], params: Ingest) -> build.Selected:
    """What ingest makes of the rows, pictures and files aside. LISTED stands for cold_items.txt."""
    raw = raw_of(rows)
    cold = sorted(LISTED) if params.cold_items == "listed" else held_out.item_ids(raw, params, Quarantine())
    return build.select(raw, raw.interactions, cold, params)


def held_out_items(params: Ingest) -> set[str]:
    if params.cold_items == "drawn":
        return {name for name in ITEMS if held_out.drawn(name, params.cold_share, params.cold_seed)}
    return LISTED if params.cold_items == "listed" else set()


def parts(rows: list[Row], params: Ingest) -> Parts:
    """Raises EmptyError where ingest refuses."""
    kept = [n for n, row in enumerate(rows) if (params.since is None or row.time >= params.since)]
    kept = [n for n in kept if params.before is None or rows[n].time < params.before]
    kept = [n for n in kept if params.min_rating is None or rows[n].rating >= params.min_rating]
    kept = sorted(kept, key=lambda n: rows[n].time)  # stable: ties keep file order
    if params.duplicates != "all":
        in_order = kept if params.duplicates == "first" else kept[::-1]
        one = {(rows[n].user, rows[n].item): n for n in reversed(in_order)}
        kept = [n for n in kept if one[rows[n].user, rows[n].item] == n]
    out = held_out_items(params)
    warm, cold = [n for n in kept if rows[n].item not in out], [n for n in kept if rows[n].item in out]
    if params.max_history is not None:
        later = {n: sum(rows[m].user == rows[n].user for m in warm[place + 1 :]) for place, n in enumerate(warm)}
        warm = [n for n in warm if later[n] < params.max_history]
    while True:
        users, items = Counter(rows[n].user for n in warm), Counter(rows[n].item for n in warm)
        core = [n for n in warm if min(users[rows[n].user], items[rows[n].item]) >= params.k_core]
        if core == warm:
            break
        warm = core
    if not warm:
        raise EmptyError
    split = by_position if params.split == "leave_one_out" else by_time
    found = split(rows, warm, params)
    found.cold = sorted(cold + found.cold, key=lambda n: (rows[n].time, n))
    return found


def by_position(rows: list[Row], warm: list[int], params: Ingest) -> Parts:
    found = Parts()
    for user in USERS:
        mine = [n for n in warm if rows[n].user == user]
        cut = len(mine) - 2 if len(mine) >= 3 else len(mine)
        found.training += mine[:cut]
        found.validation += mine[cut : cut + 1]
        found.test += mine[cut + 1 :]
    return found


def by_time(rows: list[Row], warm: list[int], params: Ingest) -> Parts:
    times = [rows[n].time for n in warm]
    test = earliest(times, Fraction(str(params.test_share)) * len(times))
    valid = earliest([t for t in times if t < test], Fraction(str(params.valid_share)) * len(times))
    trained = {rows[n].item for n in warm if rows[n].time < valid}
    found = Parts(cold=[n for n in warm if rows[n].item not in trained])
    for n in warm:
        if rows[n].item in trained:
            time = rows[n].time
            (found.training if time < valid else found.validation if time < test else found.test).append(n)
    first = {rows[n].user: n for n in reversed(found.training + found.validation + found.test)}
    if not set(found.validation) - set(first.values()) or not set(found.test) - set(first.values()):
        raise EmptyError
    return found


def earliest(times: list[int], most: Fraction) -> int:
    """The first moment from which on there are at most so many of the times."""
    fitting = [moment for moment in set(times) if sum(t >= moment for t in times) <= most]
    if not fitting:
        raise EmptyError
    return min(fitting)


SPLITS, COLD = ("leave_one_out", "global_time"), ("none", "listed", "drawn")
BUSY_ITEMS = ITEMS[:4] * 3 + ITEMS  # few items often, so that k-cores and training parts are no rarity
drawn_rows = st.lists(
    st.builds(Row, st.sampled_from("pqr" * 2 + USERS), st.sampled_from(BUSY_ITEMS), st.integers(1, 12), st.just(5.0)),
    min_size=14,
    max_size=45,
)
drawn_filters = st.fixed_dictionaries(
    {
        "since": st.sampled_from([None, None, 2]),
        "before": st.sampled_from([None, None, 12]),
        "min_rating": st.sampled_from([None, None, 5.0]),
        "duplicates": st.sampled_from(["all", "all", "first", "last"]),
        "max_history": st.sampled_from([None, None, 4, 8]),
        "k_core": st.sampled_from([1, 1, 2, 3]),
        "valid_share": st.sampled_from([0.2, 0.29, 0.4]),
        "test_share": st.sampled_from([0.2, 0.3, 0.4]),
        "cold_share": st.just(0.3),
        "cold_seed": st.integers(0, 3),
    }
)
NO_FILTER = {"since": None, "before": None, "min_rating": None, "duplicates": "all", "max_history": None, "k_core": 1}


@st.composite
def drawn_cases(draw: st.DrawFn) -> tuple[list[Row], dict[str, Any]]:
    """Rows, some of them rated low, and filters for them."""
    rows = draw(drawn_rows)
    low = draw(st.sets(st.integers(0, len(rows) - 1), max_size=4))
    return [row._replace(rating=1.0) if n in low else row for n, row in enumerate(rows)], draw(drawn_filters)
