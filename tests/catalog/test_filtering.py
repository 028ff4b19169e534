"""Each filter against a naive version, and their fixed order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.filtering import Steps, filtered, k_core
from pipeline.catalog.raw import Interactions
from pipeline.errors import MolarError
from tests.catalog.shop import ingest_params


def events(rows: list[tuple[int, int, int, float]]) -> Interactions:
    """Interactions of (user, item, timestamp, rating), in file order."""
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Interactions(
        user=columns[:, 0].astype(np.int32),
        item=columns[:, 1].astype(np.int32),
        timestamp=columns[:, 2].astype(np.int64),
        rating=columns[:, 3],
        row=np.arange(len(rows)),
        user_ids=[f"u{n}" for n in range(8)],
        item_ids=[f"i{n}" for n in range(8)],
    )


NONE_COLD = np.zeros(8, dtype=np.bool_)


def kept_rows(rows: list[tuple[int, int, int, float]], tmp_path, **changes: object) -> list[int]:
    return filtered(events(rows), NONE_COLD, ingest_params(tmp_path, **changes), Steps())[0].row.tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=40), st.integers(1, 4))
def test_k_core_equals_dropping_one_row_at_a_time(pairs, k) -> None:
    rows = list(enumerate(pairs))
    while True:
        users, items = [u for _, (u, _) in rows], [i for _, (_, i) in rows]
        weak = [row for row in rows if users.count(row[1][0]) < k or items.count(row[1][1]) < k]
        if not weak:
            break
        rows.remove(weak[0])
    found = np.flatnonzero(k_core(events([(u, i, 0, 0) for u, i in pairs]), k))
    assert found.tolist() == [n for n, _ in rows]


def test_repeats_are_judged_in_time_order_not_file_order(tmp_path) -> None:
    rows = [(0, 0, 30, 5), (0, 1, 20, 5), (0, 0, 10, 5), (1, 0, 5, 5)]
    assert kept_rows(rows, tmp_path, duplicates="all") == [3, 2, 1, 0]
    assert kept_rows(rows, tmp_path, duplicates="first") == [3, 2, 1]
    assert kept_rows(rows, tmp_path, duplicates="last") == [3, 1, 0]


def test_repeats_at_one_instant_follow_the_file(tmp_path) -> None:
    rows = [(0, 0, 10, 5), (0, 0, 10, 5)]
    assert kept_rows(rows, tmp_path, duplicates="first") == [0]
    assert kept_rows(rows, tmp_path, duplicates="last") == [1]


def test_a_low_rating_does_not_count_as_a_repeat(tmp_path) -> None:
    rows = [(0, 0, 10, 2), (0, 0, 20, 4)]
    assert kept_rows(rows, tmp_path, min_rating=4.0, duplicates="first") == [1]


def test_cold_items_do_not_help_anyone_into_the_core(tmp_path) -> None:
    rows = [(0, 0, 1, 5), (0, 1, 2, 5), (1, 0, 3, 5), (1, 1, 4, 5), (2, 0, 5, 5), (2, 7, 6, 5)]
    cold = NONE_COLD.copy()
    cold[7] = True
    warm, held_out = filtered(events(rows), cold, ingest_params(tmp_path, k_core=2), Steps())
    assert warm.row.tolist() == [0, 1, 2, 3], "user 2 has one warm interaction"
    assert held_out.row.tolist() == [5]


def test_the_window_is_closed_below_and_open_above(tmp_path) -> None:
    rows = [(0, 0, t, 5) for t in (1, 2, 3, 4)]
    assert kept_rows(rows, tmp_path, since=2) == [1, 2, 3]
    assert kept_rows(rows, tmp_path, before=4) == [0, 1, 2]
    assert kept_rows(rows, tmp_path, since=2, before=4) == [1, 2]
    assert kept_rows(rows, tmp_path, since=-(2**80), before=2**80) == [0, 1, 2, 3]


def test_the_window_decides_which_repeat_is_the_first(tmp_path) -> None:
    rows = [(0, 0, 1, 5), (0, 0, 2, 5), (0, 0, 3, 5)]
    assert kept_rows(rows, tmp_path, since=2, duplicates="first") == [1]
    assert kept_rows(rows, tmp_path, before=3, duplicates="last") == [1]


def test_the_latest_of_each_user_stay_ties_by_file_order(tmp_path) -> None:
    rows = [(0, 0, 9, 5), (1, 0, 1, 5), (0, 1, 5, 5), (0, 2, 5, 5), (0, 3, 2, 5), (1, 1, 0, 5)]
    assert kept_rows(rows, tmp_path, max_history=2) == [5, 1, 3, 0]
    assert kept_rows(rows, tmp_path, max_history=1) == [1, 0]


def test_histories_are_cut_without_cold_items_and_before_the_core(tmp_path) -> None:
    rows = [(0, 0, 1, 5), (0, 1, 2, 5), (0, 7, 3, 5), (1, 0, 1, 5), (1, 1, 2, 5), (1, 2, 3, 5), (1, 2, 4, 5)]
    cold = NONE_COLD.copy()
    cold[7] = True
    steps = Steps()
    warm, held_out = filtered(events(rows), cold, ingest_params(tmp_path, max_history=2), steps)
    assert warm.row.tolist() == [0, 1, 5, 6] and held_out.row.tolist() == [2]
    assert [row[0] for row in steps.rows] == ["without cold items", "latest 2 of each user"]
    warm, _ = filtered(events(rows), cold, ingest_params(tmp_path, max_history=2, k_core=2), Steps())
    assert warm.row.tolist() == [5, 6], "items 0 and 1 have one interaction left each"


def test_the_window_is_a_step_by_its_bounds(tmp_path) -> None:
    names = []
    for changes in ({"since": 1}, {"before": 3}, {"since": 1, "before": 3}):
        steps = Steps()
        filtered(events([(0, 0, 2, 5)]), NONE_COLD, ingest_params(tmp_path, **changes), steps)
        names += [row[0] for row in steps.rows]
    assert names == ["1 <= time", "time < 3", "1 <= time < 3"]


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"since": 3}, "ingest.since = 3 (times go from 1 to 2)"),
        ({"since": 5, "before": 9}, "ingest.since = 5 and ingest.before = 9 (times go from 1 to 2)"),
        ({"min_rating": 6.0}, "ingest.min_rating = 6"),
        ({"k_core": 3}, "ingest.k_core = 3"),
    ],
)
def test_nothing_left_names_the_filter(tmp_path, changes, step) -> None:
    with pytest.raises(MolarError) as error:
        kept_rows([(0, 0, 1, 5), (1, 1, 2, 5)], tmp_path, **changes)
    assert str(error.value) == f"{tmp_path}: no interaction is left after {step}: loosen it in params.yaml"
