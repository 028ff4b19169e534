"""Names to items, messages with near matches, and the page."""

import re

import pytest
from rich.console import Console

from pipeline.errors import MolarError
from pipeline.report.page import page
from pipeline.report.recommendation import cards, find_items, find_user, terminal
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
    with pytest.raises(MolarError) as error:
        find_user(["user-1", "other"], "usr-1")
    assert str(error.value) == "no user 'usr-1': did you mean 'user-1'?"


def test_page_is_self_contained_and_escapes_what_it_shows():
    shop = items()
    html = page("user <x>", cards(shop, [1], None, pictures=True), cards(shop, [5, 0], [2.0, 1.0], pictures=True))
    assert "&lt;b&gt;Heat&lt;/b&gt;" in html and "<b>" not in html and "user &lt;x&gt;" in html
    assert "data:image/png;base64," in html and "prefers-color-scheme: dark" in html
    assert not re.search(r"https?://|<script|<link", html)
    assert html.index("Heat") < html.index("Matrix") < html.index("Toy Story")


def test_terminal_shows_history_above_the_ranked_list():
    shop = items()
    console = Console(width=120)
    with console.capture() as capture:
        console.print(terminal("user u1", cards(shop, [1, 0], None, False), cards(shop, [4], [1.5], False)))
    lines = capture.get()
    assert lines.index("user u1 chose 2 items") < lines.index("Toy Story") < lines.index("recommended next")
    assert "14" in lines and "1.500" in lines  # an item without title shows its id
