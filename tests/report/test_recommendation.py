"""The page and the table of one recommendation."""

import re

from rich.console import Console

from pipeline.report.page import page
from pipeline.report.recommendation import cards, terminal
from tests.report.shelf import items


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


def test_an_id_is_never_cut():
    shop = items()
    table = terminal("user u1", cards(shop, [1], None, False), cards(shop, [4], [1.5], False)).renderables[1]
    assert {column.header: column.overflow for column in table.columns}["id"] == "fold"
