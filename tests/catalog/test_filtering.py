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


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"min_rating": 6.0}, "ingest.min_rating = 6"),
        ({"k_core": 3}, "ingest.k_core = 3"),
    ],
)
def test_nothing_left_names_the_filter(tmp_path, changes, step) -> None:
    with pytest.raises(MolarError) as error:
        kept_rows([(0, 0, 1, 5), (1, 1, 2, 5)], tmp_path, **changes)
    assert str(error.value) == f"{tmp_path}: no interaction is left after {step}: loosen it in params.yaml"
