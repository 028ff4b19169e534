"""Sequences and their split, by position or by time, and where each cold choice falls in them.

Users and items are numbered by first appearance in time over the kept interactions (ties by file order), so that
a catalogue that grows without re-filtering only appends.

Leave-one-out: a user of n >= 3 items gives the last one to test and the last but one to validation; shorter users are
all training. Global time: two moments cut everyone's interactions alike, so that nothing trained on is later than
anything asked. An item that nobody chose before the first moment is cold by construction: its choices leave the
sequences and are asked as cold ones. Numbers follow time, so the items of the training part come first, as do its
users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.catalog.order import by_first_appearance, stable_argsort
from pipeline.catalog.raw import Interactions, together
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest


@dataclass(frozen=True)
class Moments:
    """Interactions before `validation` are training, those from `test` on are test."""

    validation: int
    test: int

    def facts(self) -> dict[str, int]:
        """For the summary."""
        return {"validation_from": self.validation, "test_from": self.test}


def leave_one_out(warm: Interactions, item_number: np.ndarray, num_items: int) -> tuple[Sequences, np.ndarray]:
    """Sequences of the warm interactions, which come in time order, and the user number of each user code (or -1).

    item_number: (codes,) int32, the item_idx of each item code.
    """
    order, user_number = by_first_appearance(warm.user, len(warm.user_ids))
    length_U = np.bincount(user_number[warm.user], minlength=len(order))
    held_out_U = length_U >= 3
    ends = length_U - 2 * held_out_U, length_U - held_out_U
    return _sequences(warm, item_number, num_items, order, user_number, ends), user_number


def global_time(
    warm: Interactions, item_number: np.ndarray, num_items: int, moments: Moments
) -> tuple[Sequences, np.ndarray]:
    """The same, cut at two moments. A user of the later parts alone has no training items: train_end is 0."""
    order, user_number = by_first_appearance(warm.user, len(warm.user_ids))
    user_T = user_number[warm.user]
    before_valid, before_test = (
        np.bincount(user_T[warm.timestamp < moment], minlength=len(order))
        for moment in (moments.validation, moments.test)
    )
    return _sequences(warm, item_number, num_items, order, user_number, (before_valid, before_test)), user_number


def _sequences(
    warm: Interactions,
    item_number: np.ndarray,
    num_items: int,
    order: np.ndarray,
    user_number: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
) -> Sequences:
    """Flat sequences. order: user codes by number; ends: train_end and valid_end of each user."""
    user_T = user_number[warm.user]
    by_user_T = stable_argsort(user_T)  # stable: within a user, time order stays
    length_U = np.bincount(user_T, minlength=len(order))
    return Sequences(
        user_ids=[warm.user_ids[code] for code in order],
        items=item_number[warm.item[by_user_T]],
        timestamps=warm.timestamp[by_user_T],
        offsets=np.concatenate([[0], np.cumsum(length_U)]).astype(np.int64),
        train_end=ends[0].astype(np.int32),
        valid_end=ends[1].astype(np.int32),
        num_items=num_items,
        num_warm=int(item_number[warm.item].max()) + 1,
    )


def moments(timestamps: np.ndarray, params: Ingest) -> Moments:
    """Where validation and test begin, from ascending timestamps: the earliest moments at which either part holds at
    most its share of the interactions.

    Equal timestamps stay together. A group too large for the later part falls to the earlier one, so that a part may
    get less than its share and never more. Raises MolarError where that leaves a part empty.
    """
    test = _start(timestamps, len(timestamps), "test", params.test_share, params)
    return Moments(
        validation=int(timestamps[_start(timestamps, test, "validation", params.valid_share, params)]),
        test=int(timestamps[test]),
    )


def _start(timestamps: np.ndarray, stop: int, part: str, share: float, params: Ingest) -> int:
    """Position at which the part that ends before `stop` begins."""
    most = int(share * len(timestamps) + 1e-9)  # 0.29 x 100 is a hair below 29
    last_before = timestamps[stop - most - 1]  # of the part before, whatever its ties; shares add up to less than 1
    start = int(np.searchsorted(timestamps, last_before, side="right"))
    if start < stop:
        return start
    last = int(timestamps[stop - 1])
    tied = stop - int(np.searchsorted(timestamps, last, side="left"))
    key = "test_share" if part == "test" else "valid_share"
    raise MolarError(
        f"{params.path}: ingest.split = 'global_time' leaves nothing for {part}: {tied:,} of {len(timestamps):,} "
        f"interactions are of the time {last}, more than ingest.{key} = {share:g}: raise it, or split leave_one_out"
    )


def without_new_items(warm: Interactions, cold: Interactions, moments: Moments) -> tuple[Interactions, Interactions]:
    """(warm, cold) in time order, with the interactions of items that are new after training moved to the cold."""
    is_trained = np.zeros(len(warm.item_ids), dtype=np.bool_)
    is_trained[warm.item[warm.timestamp < moments.validation]] = True
    seen = is_trained[warm.item]
    return warm.at(seen), together(cold, warm.at(~seen))


def refuse_unasked(sequences: Sequences, params: Ingest) -> None:
    """Raise MolarError where no choice of validation or of test can be asked."""
    asked = (
        ("validation", "valid_share", sequences.queries("validation")),
        ("test", "test_share", sequences.queries("test")),
    )
    for part, key, queries in asked:
        if not len(queries):
            raise MolarError(
                f"{params.path}: ingest.split = 'global_time' leaves no {part} choice to ask: all are of items new "
                f"since training, or the first of their user: raise ingest.{key}, or split leave_one_out"
            )


def cold_queries(
    cold: Interactions, warm: Interactions, user_number: np.ndarray, item_number: np.ndarray
) -> tuple[Queries, np.ndarray]:
    """Each cold choice as a query after what its user had chosen before (time, then file order), in user order.

    Also returns the mask of `cold` that could be asked: the user is still there and has a history by then.
    """
    asking = np.zeros(len(warm.user_ids), dtype=np.bool_)
    asking[cold.user] = True
    warm = warm.at(asking[warm.user])  # the others' choices, often all there are, would only be sorted along
    # Sort both together by (user, time, row): row is file order, the tie-break of the sequences themselves.
    user = np.concatenate([warm.user, cold.user])
    order = np.lexsort((np.concatenate([warm.row, cold.row]), np.concatenate([warm.timestamp, cold.timestamp]), user))
    warm_before = np.concatenate([[0], np.cumsum(order < len(warm))])  # warm rows ahead of each place, all users
    first_place_of_user = np.searchsorted(user[order], user)
    place = np.empty(len(user), dtype=np.int64)
    place[order] = np.arange(len(user))
    end = (warm_before[place] - warm_before[first_place_of_user]).astype(np.int32)
    end_C = end[len(warm) :]
    asked_C = (user_number[cold.user] >= 0) & (end_C > 0)
    user_Q = user_number[cold.user[asked_C]]
    by_user_Q = stable_argsort(user_Q)
    queries = Queries(
        user=user_Q[by_user_Q],
        end=end_C[asked_C][by_user_Q],
        target=item_number[cold.item[asked_C]][by_user_Q],
    )
    return queries, asked_C
