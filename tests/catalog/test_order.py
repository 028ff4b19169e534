import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.order import by_first_appearance, stable_argsort

WIDE = st.integers(-(2**62), 2**62)  # too wide to share an int64 with a position
NARROW = st.integers(-(10**9), 10**9)


@given(st.lists(st.one_of(NARROW, st.integers(-2, 2)), max_size=60))
def test_narrow_keys_sort_as_numpy_sorts_them(keys: list[int]) -> None:
    array = np.array(keys, np.int64)
    assert stable_argsort(array).tolist() == np.argsort(array, kind="stable").tolist()


@given(st.lists(st.one_of(WIDE, st.integers(-2, 2)), min_size=1, max_size=60))
def test_wide_keys_sort_as_numpy_sorts_them(keys: list[int]) -> None:
    array = np.array(keys, np.int64)
    assert stable_argsort(array).tolist() == np.argsort(array, kind="stable").tolist()


def test_small_types_do_not_overflow() -> None:
    keys = np.array([2**31 - 1, -(2**31), 5, 5], np.int32)
    assert stable_argsort(keys).tolist() == [1, 2, 3, 0]


@given(st.lists(st.integers(0, 9), max_size=40))
def test_numbers_follow_first_appearance(codes: list[int]) -> None:
    order, number = by_first_appearance(np.array(codes, np.int32), 10)
    assert order.tolist() == list(dict.fromkeys(codes))
    assert [number[code] for code in order] == list(range(len(order)))
    assert all(number[code] == -1 for code in set(range(10)) - set(codes))
