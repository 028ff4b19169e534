"""Which interactions stay: time window, minimum rating, repeats, cold items apart, longest history, iterative k-core.

Each step is counted. Order matters and is fixed: an interaction first has to be of the time and good enough, then to
be the one of its repeats that counts, and only what is left decides who has k interactions. Cold items are taken out
before histories are cut and before the k-core, since nothing that is trained on may know of them. The k-core comes
last, so that what it promises holds; it counts held-out interactions too, as is the custom.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pipeline.catalog.order import stable_argsort
from pipeline.catalog.raw import Interactions
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest


@dataclass
class Steps:
    """Counts after each step, for the summary: (step, interactions, users, items)."""

    rows: list[tuple[str, int, int, int]] = field(default_factory=list)

    def note(self, step: str, events: Interactions) -> None:
        users, items = (np.count_nonzero(np.bincount(codes)) for codes in (events.user, events.item))
        self.rows.append((step, len(events), int(users), int(items)))


def in_time_order(events: Interactions) -> Interactions:
    """Stable by timestamp, so that equal timestamps keep file order: ties decide who is last (peers.md 2)."""
    return events.at(stable_argsort(events.timestamp))


def filtered(
    events: Interactions, is_cold_item: np.ndarray, params: Ingest, steps: Steps
) -> tuple[Interactions, Interactions]:
    """(warm, cold) interactions in time order. `is_cold_item`: bool by item code.

    Raises MolarError if no warm interaction is left.
    """
    if params.since is not None or params.before is not None:
        events = _in_window(events, params, steps)
    if params.min_rating is not None and events.rating is not None:
        events = events.at(events.rating >= params.min_rating)
        steps.note(f"rating >= {params.min_rating:g}", events)
        _refuse_empty(events, f"ingest.min_rating = {params.min_rating:g}", params)
    if params.duplicates != "all":
        events = in_time_order(events)
        events = events.at(_one_of_each_pair(events, params.duplicates))
        steps.note(f"{params.duplicates} of each user-item pair", events)
    is_cold = is_cold_item[events.item]
    warm, cold = events.at(~is_cold), events.at(is_cold)
    if is_cold_item.any():
        steps.note("without cold items", warm)
        _refuse_empty(warm, f"ingest.cold_items = '{params.cold_items}'", params)
    if params.max_history is not None:
        warm = in_time_order(warm)
        warm = warm.at(_latest_of_each_user(warm.user, params.max_history))
        steps.note(f"latest {params.max_history} of each user", warm)
    if params.k_core > 1:
        warm = warm.at(k_core(warm, params.k_core))
        steps.note(f"{params.k_core}-core", warm)
        _refuse_empty(warm, f"ingest.k_core = {params.k_core}", params)
    return in_time_order(warm), in_time_order(cold)  # last, when the fewest are left


def _in_window(events: Interactions, params: Ingest, steps: Steps) -> Interactions:
    """The interactions of since <= timestamp < before."""
    time, inside = events.timestamp, np.ones(len(events), dtype=np.bool_)
    step, named = "time", []
    if params.since is not None:
        inside &= time >= params.since
        step, named = f"{params.since} <= {step}", [f"ingest.since = {params.since}"]
    if params.before is not None:
        inside &= time < params.before
        step, named = f"{step} < {params.before}", [*named, f"ingest.before = {params.before}"]
    kept = events.at(inside)
    steps.note(step, kept)
    # a wrong unit (seconds for milliseconds) is what empties a window
    _refuse_empty(kept, f"{' and '.join(named)} (times go from {time.min()} to {time.max()})", params)
    return kept


def _latest_of_each_user(user: np.ndarray, most: int) -> np.ndarray:
    """Mask of the last `most` interactions of every user, of interactions in time order."""
    by_user = stable_argsort(user)
    length_U = np.bincount(user)
    place_T = np.arange(len(user)) - np.repeat(np.cumsum(length_U) - length_U, length_U)  # within its user
    kept = np.empty(len(user), dtype=np.bool_)
    kept[by_user] = place_T >= np.repeat(length_U - most, length_U)
    return kept


def _one_of_each_pair(events: Interactions, which: str) -> np.ndarray:
    """Positions of the first (or last) interaction of every user-item pair, ascending."""
    pair = events.user.astype(np.int64) * len(events.item_ids) + events.item
    if which == "first":
        return np.sort(np.unique(pair, return_index=True)[1])
    return np.sort(len(pair) - 1 - np.unique(pair[::-1], return_index=True)[1])


def k_core(events: Interactions, k: int) -> np.ndarray:
    """Mask of the largest part in which every user and every item has at least k interactions (repeats count)."""
    kept = np.ones(len(events), dtype=np.bool_)
    while True:
        users = np.bincount(events.user[kept], minlength=len(events.user_ids))
        items = np.bincount(events.item[kept], minlength=len(events.item_ids))
        smaller = kept & (users >= k)[events.user] & (items >= k)[events.item]
        if smaller.sum() == kept.sum():
            return kept
        kept = smaller


def _refuse_empty(events: Interactions, step: str, params: Ingest) -> None:
    if not len(events):
        raise MolarError(f"{params.path}: no interaction is left after {step}: loosen it in params.yaml")
