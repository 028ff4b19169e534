"""The gallery: an even draw, and a page that shows pictures, words in their place, and nothing unescaped."""

import re
from types import SimpleNamespace

import numpy as np

from pipeline.report.gallery import WORDS, page, rows, spread


def shop():
    """Stands in for `pipeline.catalog.catalogue.Items`."""
    return SimpleNamespace(
        item_ids=["a", "b", "c"],
        titles=["<script>alert(1)</script>", None, "Cup"],
        texts=["unseen", 'A "long" <i>text</i> ' + "and on " * 100, None],
        attributes=[{"brand": "Tom & Co", "year": "1999"}, {}, {"brand": "</div>"}],
        image_bytes=lambda idx: b"\x89PNG picture" if idx == 0 else None,
    )


def html():
    found_QK, cosines_QK = np.array([[1, 2], [2, 0]]), np.array([[0.5, -0.25], [1, 0.5]])
    shown = rows(shop(), np.array([0, 1]), found_QK, cosines_QK, np.array([1200, 3, 0]), num_warm=2)
    return page("2 items <of 3>", shown)


def test_a_query_and_its_neighbours_stand_in_order():
    sections = html().split('<section class="near">')[1:]
    assert [section.count("<li>") for section in sections] == [2, 2]
    assert sections[0].index("training interactions: 1,200") < sections[0].index("cosine 0.500")
    assert sections[0].index("cosine 0.500") < sections[0].index("cosine -0.250")
    assert '<div class="title">b</div>' in sections[1]  # without a title, its id
    assert [section.count('class="cold"') for section in sections] == [1, 1]


def test_an_item_without_picture_shows_its_words():
    page_html = html()
    assert page_html.count("<img") == page_html.count("data:image/png;base64,") == 2
    boxes = re.findall(r'<div class="frame said">(.*?)</div>', page_html)
    assert boxes[1] == "Cup" and boxes[0].startswith("A &quot;long&quot; &lt;i&gt;text") and boxes[0].endswith("…")
    assert len(boxes[0]) < WORDS + 60


def test_the_page_is_self_contained_and_escapes_what_it_shows():
    page_html = html()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page_html and "Tom &amp; Co, 1999" in page_html
    assert "2 items &lt;of 3&gt;" in page_html and "<i>" not in page_html
    assert not re.search(r"https?://|<script|<link", page_html)
    assert page_html.count("<div") == page_html.count("</div>")


def test_the_draw_is_even_over_popularity_and_repeats():
    counts_N = np.random.default_rng(0).permutation(100)
    drawn = spread(counts_N, 10, seed=0)
    assert (counts_N[drawn] // 10).tolist() == list(range(9, -1, -1))
    assert np.array_equal(drawn, spread(counts_N, 10, seed=0)) and not np.array_equal(drawn, spread(counts_N, 10, 1))
    assert sorted(spread(np.zeros(3, int), 12, seed=0).tolist()) == [0, 1, 2]
