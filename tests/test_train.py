"""benchmarks/peer.py and train.py: what RecBole is given is what ours trains on, and its ranks mean what ours mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.peer import write_inter
from benchmarks.recbole_model import _tested
from benchmarks.train import compared, first_users
from pipeline.catalog.catalogue import Sequences

SEQUENCES = Sequences(
    user_ids=["a", "b"],
    items=np.array([3, 1, 2, 0, 1, 3, 2], np.int32),
    timestamps=np.array([5, 5, 5, 9, 1, 2, 3], np.int64),  # equal times, whose order is the file's
    offsets=np.array([0, 4, 7], np.int64),
    train_end=np.array([2, 1], np.int32),
    valid_end=np.array([3, 2], np.int32),
    num_items=4,
    num_warm=4,
)


def test_recbole_gets_every_item_in_its_order(tmp_path: Path) -> None:
    write_inter(SEQUENCES, tmp_path)
    head, *rows = (tmp_path / "interactions" / "interactions.inter").read_text().splitlines()
    assert head == "user_id:token\titem_id:token\ttimestamp:float"
    assert [tuple(map(int, row.split("\t"))) for row in rows] == [
        (0, 3, 0), (0, 1, 1), (0, 2, 2), (0, 0, 3), (1, 1, 0), (1, 3, 1), (1, 2, 2)
    ]  # fmt: skip


def test_the_first_users_keep_their_split() -> None:
    one = first_users(SEQUENCES, 1)
    assert len(one) == 1 and list(one.history(0)) == [3, 1, 2, 0]
    assert list(one.queries("validation").target) == [2] and list(one.queries("test").target) == [0]
    assert first_users(SEQUENCES, 0) is SEQUENCES


class _Queries(dict[str, torch.Tensor]):
    """As much of RecBole's Interaction as is asked for."""

    def __len__(self) -> int:
        return len(self["user_id"])

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        if isinstance(key, slice):
            return _Queries({name: values[key] for name, values in self.items()})
        return super().__getitem__(key)


class _Scores(torch.nn.Module):
    """Item 5 before 4 before 3 ...; item 0 is RecBole's padding, which it would put first."""

    def full_sort_predict(self, block: _Queries) -> torch.Tensor:
        return torch.tensor([9.0, 1, 2, 3, 4, 5]).repeat(len(block), 1).flatten()


def test_a_rank_of_recbole_counts_all_items_or_those_that_the_user_never_chose() -> None:
    users, items = np.array([2, 1, 2, 1, 2]), np.array([5, 3, 2, 4, 4])
    queries = _Queries(user_id=torch.tensor([1, 2]), item_id=torch.tensor([3, 2]))
    assert _tested(_Scores(), queries, users, items) == {"unmasked": [2, 3], "masked": [1, 1]}


def test_each_of_recboles_epochs_is_compared_with_our_first_that_is_as_good() -> None:
    theirs = [(0.05, 100.0), (0.04, 200.0), (0.09, 300.0)]
    table = compared(theirs, [(0.02, 10.0), (0.07, 20.0), (0.06, 30.0)]).splitlines()
    assert table[2:] == [
        "| 1 | 0.0500 | 100 | 0.0700 | 2 | 20 | 5.0 |",
        "| 2 | 0.0500 | 200 | 0.0700 | 2 | 20 | 10.0 |",
        "| 3 | 0.0900 | 300 | not reached | | | |",
    ]
