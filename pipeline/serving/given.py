"""What callers give, as what the models and Arrow hold: read here, before anything changes, or refused in one line.

Values come from wherever callers keep them: Python, numpy, a row of a data frame with its gaps, an answer of ours. A
number becomes the text that `ingest` would have made of it in a Parquet table (5.0 is 5, True is true).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from pipeline.catalog.sources.plain import readable
from pipeline.errors import MolarError

NOBODY = -1  # as in fpmc.py, which would bring torch to whoever opens a catalogue


def unwrapped(value: object) -> object:
    """The Python value of one that Arrow holds; any other as it is."""
    return value.as_py() if isinstance(value, pa.Scalar) else value


def text_of(value: object, what: str) -> str | None:
    """A string, or another plain value as text; None for None and NaN.

    Raises MolarError, which says `what` it is: a list, a mapping, or anything else that no text stands for.
    """
    value = unwrapped(value)
    if isinstance(value, str):
        return readable(str(value))  # numpy's strings as Python's
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # of any size
    try:
        text: str | None = pa.scalar(value, from_pandas=True).cast(pa.string()).as_py()
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        raise MolarError(
            f"add_item: {what} is of the type {type(value).__name__}: should be a string, a number or None"
        ) from None
    return text


def attributes_of(attributes: Mapping[str, object] | None) -> dict[str, str]:
    """Attributes in their order, those with none or an empty value left out.

    Raises MolarError: no mapping of names to values, an empty name, a value that no text stands for.
    """
    try:
        pairs = {} if attributes is None else dict(attributes)
    except (TypeError, ValueError):
        raise MolarError(
            f"add_item: attributes are of the type {type(attributes).__name__}: should be a mapping of names to "
            "values, such as {'brand': 'alba'}"
        ) from None
    found: dict[str, str] = {}
    for key, value in pairs.items():
        name = text_of(key, "the name of an attribute")
        if not name:
            raise MolarError("add_item: an attribute has no name: give it one, or leave it out")
        text = text_of(value, f"the attribute {name!r}")
        if text:
            found[name] = text
    return found


def histories_of(histories: Sequence[ArrayLike], num_items: int) -> list[NDArray[np.int32]]:
    """Each history (L,) as item numbers in int32, from whole numbers of any width, in lists or arrays.

    Raises MolarError: an empty history, or a number that no item has (-1 is none, though numpy would take the last).
    """
    found = []
    for row, history in enumerate(histories):
        numbers_L = np.asarray(history)
        refuse_empty(numbers_L, f"history {row}")
        if numbers_L.ndim != 1 or numbers_L.dtype.kind not in "iu":
            raise MolarError(f"history {row} should be a list of item numbers: `recommend` takes ids")
        out_L = numbers_L[(numbers_L < 0) | (numbers_L >= num_items)]
        if len(out_L):
            raise MolarError(f"history {row}: no item has the number {out_L[0]}, there are 0 to {num_items - 1}")
        found.append(numbers_L.astype(np.int32, copy=False))
    return found


def users_of(users: ArrayLike | None, num_queries: int, num_users: int) -> NDArray[np.int32] | None:
    """Whose histories they are: rows of users (Q,) int32, -1 for nobody's; None for nobody's at all.

    Raises MolarError: another number of rows than of histories, or a row that no user has.
    """
    if users is None:
        return None
    rows_Q = np.asarray(users)
    if rows_Q.shape != (num_queries,) or rows_Q.dtype.kind not in "iu":
        raise MolarError(f"users should be a list of {num_queries} rows of users, one for each history")
    out_Q = rows_Q[(rows_Q < NOBODY) | (rows_Q >= num_users)]
    if len(out_Q):
        raise MolarError(
            f"users: no user has the row {out_Q[0]}, there are 0 to {num_users - 1} (and {NOBODY} for nobody)"
        )
    return rows_Q.astype(np.int32, copy=False)


def refuse_empty(history: NDArray[np.integer], what: str) -> None:
    """Raise MolarError, which opens with `what`: there is no item in it."""
    if not history.size:
        raise MolarError(f"{what} is empty, and nothing follows from nothing: give at least one item")
