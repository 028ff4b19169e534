"""Names to users and items, and messages with near matches."""

import pytest

from pipeline.catalog.names import find_items, find_user
from pipeline.errors import MolarError
from tests.report.shelf import items


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["11"], [1]),
        (["toy story (1995)"], [1]),
        (["Matrix, The (1999)"], [0]),
        (["Toy Story (1995), Matrix, The (1999), 14"], [1, 0, 4]),
        (["10", "11,10"], [0, 1, 0]),
    ],
)
def test_titles_and_ids_are_found_commas_and_all(wanted, found):
    assert find_items(items(), wanted).tolist() == found


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("Toy Storey (1995)", "no item has the id or title 'Toy Storey (1995)': did you mean 'Toy Story (1995)'?"),
        ("qqqqqq", "no item has the id or title 'qqqqqq': nothing is spelled like it"),
        ("Twins", "2 items have the title 'Twins': use an id (12, 13)"),
    ],
)
def test_unknown_or_shared_titles_are_one_line(wanted, message):
    with pytest.raises(MolarError) as error:
        find_items(items(), [wanted])
    assert str(error.value) == message


def test_unknown_user_is_one_line():
    assert find_user(["u1", "u2"], "u2") == 1
    assert find_user(["1", "2"], 2) == 1
    with pytest.raises(MolarError) as error:
        find_user(["user-1", "other"], "usr-1")
    assert str(error.value) == "no user 'usr-1': did you mean 'user-1'?"
