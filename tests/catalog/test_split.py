"""Leave-one-out, ties, numbering and cold queries on cases small enough to check by eye."""

import numpy as np

from pipeline.catalog.catalogue import open_cold, open_items, open_sequences
from tests.catalog.shop import ingest, ingest_params, write_shop

ITEMS = "id,title\n" + "".join(f"{name},{name.upper()}\n" for name in "abcdefg")
PLAIN = {"text": None, "image": None}


def sequences_of(tmp_path, rows: list[tuple[str, str, int]], **changes: object):
    text = "user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    root = write_shop(tmp_path / "raw", text, ITEMS)
    if "cold_items" in changes:
        (root / "cold_items.txt").write_text("f\ng\n", "utf-8")
    artifact = ingest(ingest_params(root, PLAIN, **changes), tmp_path / "catalog")
    return open_sequences(artifact), open_items(artifact), open_cold(artifact)


def words(items, indices: np.ndarray) -> str:
    return "".join(items.item_ids[i] for i in indices)


def test_leave_one_out_by_length(tmp_path) -> None:
    rows = [
        (user, item, t)
        for user, seen in (("p", "abcd"), ("q", "abc"), ("r", "ab"), ("s", "a"))
        for t, item in enumerate(seen)
    ]
    sequences, items, _ = sequences_of(tmp_path, rows)
    parts = {user: words(items, sequences.training(n)) for n, user in enumerate(sequences.user_ids)}
    assert parts == {"p": "ab", "q": "a", "r": "ab", "s": "a"}
    assert words(items, sequences.queries("validation").target) == "cb"
    assert words(items, sequences.queries("test").target) == "dc"
    assert sequences.train_end.tolist() == [2, 1, 2, 1]
    assert sequences.valid_end.tolist() == [3, 2, 2, 1]


def test_ties_keep_file_order_whatever_the_ids_are(tmp_path) -> None:
    rows = [("p", "c", 5), ("q", "a", 5), ("p", "a", 5), ("p", "d", 1), ("p", "b", 5), ("q", "b", 5)]
    sequences, items, _ = sequences_of(tmp_path, rows)
    assert sequences.user_ids == ["p", "q"]
    assert words(items, sequences.history(0)) == "dcab"
    assert sequences.timestamps[:4].tolist() == [1, 5, 5, 5]


def test_numbers_follow_first_appearance_in_time(tmp_path) -> None:
    sequences, items, _ = sequences_of(tmp_path, [("p", "c", 9), ("q", "b", 3), ("p", "a", 9), ("q", "c", 4)])
    assert items.item_ids == ["b", "c", "a"]
    assert sequences.user_ids == ["q", "p"]


def test_later_rows_only_append(tmp_path) -> None:
    rows = [("p", "c", 1), ("p", "b", 2), ("q", "c", 3)]
    before, items_before, _ = sequences_of(tmp_path / "before", rows)
    after, items_after, _ = sequences_of(tmp_path / "after", [*rows, ("r", "a", 4), ("p", "d", 5)])
    assert items_after.item_ids[: len(items_before)] == items_before.item_ids
    assert after.user_ids[: len(before)] == before.user_ids


def test_cold_items_leave_the_sequences_and_become_queries(tmp_path) -> None:
    rows = [
        ("p", "f", 1),  # before p has any history: cannot be asked
        ("p", "a", 2),
        ("p", "g", 2),  # same instant, later in the file: after a
        ("q", "b", 2),
        ("p", "b", 3),
        ("p", "g", 4),
        ("q", "f", 9),
    ]
    sequences, items, cold = sequences_of(tmp_path, rows, cold_items="listed")
    assert items.item_ids == ["a", "b", "f", "g"], "cold ones after warm ones, in the order of items.csv"
    assert (sequences.num_items, sequences.num_warm) == (4, 2)
    assert sequences.items.max() < sequences.num_warm
    asked = [
        (sequences.user_ids[u], words(items, history), items.item_ids[target])
        for u, history, target in zip(cold.user, cold.histories(sequences), cold.target, strict=True)
    ]
    assert asked == [("p", "a", "g"), ("p", "ab", "g"), ("q", "b", "f")]


def test_cold_queries_of_filtered_users_are_not_asked(tmp_path) -> None:
    rows = [(u, i, t) for t, (u, i) in enumerate(["pa", "pb", "qa", "qb", "rc", "rf", "pf"])]
    sequences, items, cold = sequences_of(tmp_path, rows, cold_items="listed", k_core=2)
    assert sequences.user_ids == ["p", "q"]
    assert [(sequences.user_ids[u], words(items, [t])) for u, t in zip(cold.user, cold.target, strict=True)] == [
        ("p", "f")
    ]


def test_unseen_items_come_last_and_only_if_wanted(tmp_path) -> None:
    rows = [("p", "c", 1), ("p", "f", 2)]
    _, items, _ = sequences_of(tmp_path / "without", rows, cold_items="listed")
    assert items.item_ids == ["c", "f", "g"]
    sequences, items, cold = sequences_of(tmp_path / "with", rows, cold_items="listed", keep_unseen_items=True)
    assert items.item_ids == ["c", "f", "g", "a", "b", "d", "e"]
    assert sequences.num_warm == 1
    assert len(cold) == 1
