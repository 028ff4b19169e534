"""Sequences and their leave-one-out split, and where each cold choice falls in them.

Users and items are numbered by first appearance in time over the kept interactions (ties by file order), so that
a catalogue that grows without re-filtering only appends. A user of n >= 3 items gives the last one to test and
the last but one to validation; shorter users are all training.
"""

from __future__ import annotations

import numpy as np

from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.catalog.order import by_first_appearance, stable_argsort
from pipeline.catalog.raw import Interactions


def leave_one_out(warm: Interactions, item_number: np.ndarray, num_items: int) -> tuple[Sequences, np.ndarray]:
    """Sequences of the warm interactions, which come in time order, and the user number of each user code (or -1).

    item_number: (codes,) int32, the item_idx of each item code.
    """
    order, user_number = by_first_appearance(warm.user, len(warm.user_ids))
    user_T = user_number[warm.user]
    by_user_T = stable_argsort(user_T)  # stable: within a user, time order stays
    length_U = np.bincount(user_T, minlength=len(order))
    held_out_U = length_U >= 3
    sequences = Sequences(
        user_ids=[warm.user_ids[code] for code in order],
        items=item_number[warm.item[by_user_T]],
        timestamps=warm.timestamp[by_user_T],
        offsets=np.concatenate([[0], np.cumsum(length_U)]).astype(np.int64),
        train_end=(length_U - 2 * held_out_U).astype(np.int32),
        valid_end=(length_U - held_out_U).astype(np.int32),
        num_items=num_items,
        num_warm=int(item_number[warm.item].max()) + 1,
    )
    return sequences, user_number


def cold_queries(
    cold: Interactions, warm: Interactions, user_number: np.ndarray, item_number: np.ndarray
) -> tuple[Queries, np.ndarray]:
    """Each cold choice as a query after what its user had chosen before (time, then file order), in user order.

    Also returns the mask of `cold` that could be asked: the user is still there and has a history by then.
    """
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
