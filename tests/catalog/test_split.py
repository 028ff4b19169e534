"""Both splits, ties, numbering and cold queries: on cases small enough to check by eye, and against plain Python."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings

from pipeline import artifacts
from pipeline.catalog import held_out
from pipeline.catalog.catalogue import open_cold, open_items, open_sequences
from pipeline.errors import MolarError
from tests.catalog.plain_split import COLD, SPLITS, EmptyError, drawn_cases, parts, selected
from tests.catalog.shop import ingest, ingest_params, write_shop

ITEMS = "id,title\n" + "".join(f"{name},{name.upper()}\n" for name in "abcdefg")
PLAIN = {"text": None, "image": None}


def sequences_of(tmp_path, rows: list[tuple[str, str, int]], **changes: object):
    text = "user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    root = write_shop(tmp_path / "raw", text, ITEMS)
    if changes.get("cold_items") == "listed":
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


BY_TIME = {"split": "global_time", "valid_share": 0.2, "test_share": 0.2}


def parts_of(sequences, items) -> dict[str, tuple[str, str, str]]:
    """Each user's items of training, validation and test."""
    cut = zip(sequences.user_ids, sequences.train_end, sequences.valid_end, strict=True)
    return {
        user: (words(items, h[:train]), words(items, h[train:valid]), words(items, h[valid:]))
        for n, (user, train, valid) in enumerate(cut)
        for h in [sequences.history(n)]
    }


def asked(sequences, items, queries) -> list[tuple[str, str, str]]:
    histories = queries.histories(sequences)
    return [
        (sequences.user_ids[u], words(items, history), items.item_ids[target])
        for u, history, target in zip(queries.user, histories, queries.target, strict=True)
    ]


def test_two_moments_cut_everyone(tmp_path) -> None:
    rows = [(u, i, t) for t, (u, i) in enumerate(["pa", "qb", "pb", "qa", "pc", "qc", "pa", "qb", "pb", "qa"])]
    sequences, items, _ = sequences_of(tmp_path, rows, **BY_TIME)
    assert parts_of(sequences, items) == {"p": ("abc", "a", "b"), "q": ("bac", "b", "a")}
    assert asked(sequences, items, sequences.queries("test")) == [("p", "abca", "b"), ("q", "bacb", "a")]
    summary = json.loads(artifacts.read(tmp_path / "catalog", "ingest").file("summary.json").read_text())["split"]
    assert (summary["validation_from"], summary["test_from"]) == (6, 8) and "without_history" not in summary


def test_ties_at_a_moment_stay_together_in_the_earlier_part(tmp_path) -> None:
    # a fifth of ten is two, but three are of time 7: none of them is test, and 8 alone is
    times = [1, 2, 3, 4, 5, 6, 7, 7, 7, 8]
    rows = [("pq"[n % 2], "ab"[n // 2 % 2], t) for n, t in enumerate(times)]
    sequences, _, _ = sequences_of(tmp_path, rows, **BY_TIME | {"valid_share": 0.3})
    lengths = np.diff(sequences.offsets)
    assert (lengths - sequences.valid_end).sum() == 1 and (sequences.valid_end - sequences.train_end).sum() == 3
    # with 6 as well, validation would hold four: more than its share
    sequences, _, _ = sequences_of(tmp_path / "less", rows, **BY_TIME | {"valid_share": 0.35})
    assert (sequences.valid_end - sequences.train_end).sum() == 3


def test_a_user_seen_only_in_test_stays_and_its_first_choice_is_not_asked(tmp_path) -> None:
    rows = [("p", "ab"[t % 2], t) for t in range(7)] + [("q", "a", 7), ("p", "b", 7), ("r", "b", 8), ("r", "a", 9)]
    sequences, items, _ = sequences_of(tmp_path, rows, **BY_TIME)
    assert parts_of(sequences, items) == {"p": ("abababa", "b", ""), "q": ("", "a", ""), "r": ("", "", "ba")}
    assert asked(sequences, items, sequences.queries("validation")) == [("p", "abababa", "b")]
    assert asked(sequences, items, sequences.queries("test")) == [("r", "b", "a")]
    summary = json.loads(artifacts.read(tmp_path / "catalog", "ingest").file("summary.json").read_text())
    assert summary["split"] == {
        "users": 3,
        "users_held_out": 1,
        "training": 7,
        "validation": 2,
        "test": 2,
        "cold": 0,
        "without_history": 2,
        "validation_from": 7,
        "test_from": 8,
    }


def test_an_item_seen_only_in_test_is_cold(tmp_path) -> None:
    rows = [("p", "ba"[t % 2], t) for t in range(8)] + [("p", "c", 8), ("p", "a", 9), ("q", "c", 9)]
    sequences, items, cold = sequences_of(tmp_path, rows, **BY_TIME)
    assert items.item_ids == ["b", "a", "c"] and sequences.num_warm == 2
    assert parts_of(sequences, items) == {"p": ("bababab", "a", "a")}, "of q nothing is left"
    assert asked(sequences, items, cold) == [("p", "babababa", "c")]
    steps = json.loads(artifacts.read(tmp_path / "catalog", "ingest").file("summary.json").read_text())["steps"]
    assert [(s["step"], s["interactions"]) for s in steps[2:]] == [
        ("of items seen before 7", 9),
        ("cold choices that can be asked", 1),
    ]


def test_listed_and_new_items_are_asked_together_in_time_order(tmp_path) -> None:
    rows = [("p", "ba"[t % 2], t) for t in range(8)]
    rows += [("p", "c", 8), ("p", "f", 8), ("p", "d", 8), ("p", "f", 3), ("p", "a", 9), ("p", "b", 9)]
    changes = BY_TIME | {"cold_items": "listed", "test_share": 0.45}
    sequences, items, cold = sequences_of(tmp_path, rows, **changes)
    assert items.item_ids == ["b", "a", "c", "d", "f", "g"], "cold ones in the order of items.csv"
    assert [target for _, _, target in asked(sequences, items, cold)] == ["f", "c", "f", "d"]


def refusal(tmp_path, rows, **changes) -> str:
    with pytest.raises(MolarError) as error:
        sequences_of(tmp_path, rows, **changes)
    assert not (tmp_path / "catalog").exists()
    return str(error.value)


def test_a_part_that_its_share_cannot_fill_is_refused(tmp_path) -> None:
    rows = [("p", "ab"[t % 2], t) for t in range(4)]
    assert refusal(tmp_path, rows, **BY_TIME) == (
        f"{tmp_path}/raw: ingest.split = 'global_time' leaves nothing for test: 1 of 4 interactions are of the time 3, "
        "more than ingest.test_share = 0.2: raise it, or split leave_one_out"
    )
    rows = [("p", "a", 1), ("p", "b", 1), ("p", "a", 2), ("p", "b", 2), ("p", "a", 2), ("p", "a", 3)]
    assert refusal(tmp_path / "valid", rows, **BY_TIME) == (
        f"{tmp_path}/valid/raw: ingest.split = 'global_time' leaves nothing for validation: 3 of 6 interactions are of "
        "the time 2, more than ingest.valid_share = 0.2: raise it, or split leave_one_out"
    )


@pytest.mark.parametrize(
    ("late", "part", "key"), [("ae", "test", "test_share"), ("ea", "validation", "valid_share")], ids=["test", "valid"]
)
def test_a_part_without_a_choice_to_ask_is_refused(tmp_path, late, part, key) -> None:
    rows = [("p", "ab"[t % 2], t) for t in range(3)] + [("p", late[0], 8), ("p", late[1], 9)]
    assert refusal(tmp_path, rows, **BY_TIME) == (
        f"{tmp_path}/raw: ingest.split = 'global_time' leaves no {part} choice to ask: all are of items new since "
        f"training, or the first of their user: raise ingest.{key}, or split leave_one_out"
    )


def test_drawn_items_are_a_share_and_stay_drawn_as_the_catalogue_grows(tmp_path) -> None:
    drawn = [held_out.drawn(f"item {n}", 0.1, 0) for n in range(5000)]
    assert 0.08 < np.mean(drawn) < 0.12
    assert [n for n in range(60) if drawn[n]] == [n for n in range(60) if held_out.drawn(f"item {n}", 0.1, 0)]
    assert all(held_out.drawn(f"item {n}", 0.3, 0) for n in range(5000) if drawn[n]), "a larger share only adds"
    assert drawn != [held_out.drawn(f"item {n}", 0.1, 1) for n in range(5000)]

    changes = {"cold_items": "drawn", "cold_share": 0.4, "cold_seed": 2}
    few = [("p", item, t) for t, item in enumerate("abcd")]
    _, items, cold = sequences_of(tmp_path / "few", few, **changes)
    more, items_more, cold_more = sequences_of(tmp_path / "more", [*few, ("q", "e", 9), ("q", "f", 10)], **changes)
    out, out_more = {items.item_ids[t] for t in cold.target}, {items_more.item_ids[t] for t in cold_more.target}
    assert out == out_more & set("abcd") and out
    assert not out_more & {items_more.item_ids[i] for i in more.items}


def test_a_drawn_item_that_nobody_chose_is_as_any_other(tmp_path) -> None:
    changes = {"cold_items": "drawn", "cold_share": 0.999999}
    rows = [("p", "a", 1), ("p", "b", 2)]
    assert refusal(tmp_path, rows, **changes) == (
        f"{tmp_path}/raw: no interaction is left after ingest.cold_items = 'drawn': loosen it in params.yaml"
    )
    some = next(s for s in range(99) if [held_out.drawn(i, 0.5, s) for i in "abc"] == [False, True, True])
    changes = {"cold_items": "drawn", "cold_share": 0.5, "cold_seed": some}
    _, items, _ = sequences_of(tmp_path / "without", rows, **changes)
    assert items.item_ids == ["a", "b"], "c is drawn, but nobody chose it"
    _, items, _ = sequences_of(tmp_path / "with", rows, **changes, keep_unseen_items=True)
    assert items.item_ids == ["a", "b", *"cdefg"]


@pytest.mark.parametrize("cold_items", COLD)
@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=40, deadline=None)
@given(case=drawn_cases())
def test_filters_and_splits_equal_plain_python(split, cold_items, case) -> None:
    rows, changes = case
    params = ingest_params("raw", **changes | {"split": split, "cold_items": cold_items})
    try:
        expected = parts(rows, params)
    except EmptyError:
        with pytest.raises(MolarError):
            selected(rows, params)
        assume(False)
    found = selected(rows, params)
    names, sequences = [item.item_id for item in found.items], found.sequences
    warm = sorted(expected.training + expected.validation + expected.test, key=lambda n: (rows[n].time, n))

    def of(user: str, some: list[int]) -> list[tuple[str, int]]:
        return [(rows[n].item, rows[n].time) for n in warm if rows[n].user == user and n in some]

    assert sequences.user_ids == list(dict.fromkeys(rows[n].user for n in warm))
    assert names[: sequences.num_warm] == list(dict.fromkeys(rows[n].item for n in warm))
    for number, user in enumerate(sequences.user_ids):
        mine = slice(sequences.offsets[number], sequences.offsets[number + 1])
        got = [(names[i], int(t)) for i, t in zip(sequences.items[mine], sequences.timestamps[mine], strict=True)]
        train, valid = sequences.train_end[number], sequences.valid_end[number]
        assert got[:train] == of(user, expected.training)
        assert got[train:valid] == of(user, expected.validation)
        assert got[valid:] == of(user, expected.test)
    questions = []
    for user in sequences.user_ids:
        for n in (n for n in expected.cold if rows[n].user == user):
            before = [m for m in warm if rows[m].user == user and (rows[m].time, m) < (rows[n].time, n)]
            if before:
                questions.append((user, len(before), rows[n].item))
    cold = found.cold
    assert questions == [
        (sequences.user_ids[u], end, names[t]) for u, end, t in zip(cold.user, cold.end, cold.target, strict=True)
    ]
    assert (cold.target >= sequences.num_warm).all() and len(set(names)) == sequences.num_items == len(names)
