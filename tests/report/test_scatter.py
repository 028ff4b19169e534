"""The map: principal components, one dot per item, colours for the frequent values."""

import re
from xml.dom import minidom

import numpy as np
import pytest

from pipeline.errors import MolarError
from pipeline.report import scatter
from pipeline.report.scatter import COLOURS, GREY, attribute_values, page, project, telling_attribute

RNG = np.random.default_rng(0)
TALL_ND = (RNG.normal(size=(50, 4)) * [1, 9, 3, 0.1] + [100, 0, 0, 0]).astype(np.float32)


def drawn(html: str) -> minidom.Document:
    return minidom.parseString(html[html.index("<svg") : html.index("</svg>") + len("</svg>")])


def test_projection_is_that_of_the_centred_rows():
    found = project(TALL_ND)
    centred_ND = TALL_ND.astype(float) - TALL_ND.mean(axis=0, dtype=float)
    _, values_D, axes_DD = np.linalg.svd(centred_ND, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.places_N2), np.abs(centred_ND @ axes_DD[:2].T), atol=1e-4)
    assert found.shares == pytest.approx(values_D[:2] ** 2 / (values_D**2).sum(), rel=1e-5)
    assert np.array_equal(found.places_N2, project(TALL_ND).places_N2)


@pytest.mark.parametrize("rows", [[[1.0], [2.0], [4.0]], [[1.0, 2.0]] * 3])
def test_flat_embeddings_have_a_map_too(rows):
    found = project(np.array(rows, np.float32))
    assert found.places_N2.shape == (3, 2) and np.isfinite(found.places_N2).all()
    html = page(found, ["a", "b", "c"], None, [None] * 3, seed=0)
    assert len(drawn(html).getElementsByTagName("circle")) == 3 and "nan" not in html


def test_one_dot_per_item_frequent_values_coloured_the_rest_grey():
    values = [None if n == 0 else f"v{min(n % 12, 9)}" for n in range(50)]  # v9 is the most frequent, then v1, v2
    html = page(project(TALL_ND), [f"item {n}" for n in range(50)], "kind", values, seed=0)
    svg = drawn(html)
    circles = svg.getElementsByTagName("circle")
    assert len(circles) == 50
    fills = [circle.getAttribute("fill") for circle in circles]
    assert set(fills) == {*COLOURS, GREY} and fills[0] == GREY and fills[9] == fills[10] == COLOURS[0]
    labels = [text.firstChild.data for text in svg.getElementsByTagName("text")]
    assert labels[2:5] == ["kind", "v9 (12)", "v1 (5)"]
    assert sum(int(re.search(r"\((\d+)\)", label)[1]) for label in labels[3:]) == 50
    assert re.fullmatch(r"component 1: \d+\.\d % of the variance", labels[0])
    places = [(float(c.getAttribute("cx")), float(c.getAttribute("cy"))) for c in circles]
    assert all(0 < x < scatter.WIDTH and 0 < y < scatter.HEIGHT for x, y in places)
    assert circles[1].getElementsByTagName("title")[0].firstChild.data == "item 1 (v1)"


def test_a_large_catalogue_is_drawn_in_part_and_says_so(monkeypatch):
    monkeypatch.setattr(scatter, "MOST_DOTS", 20)
    html = page(project(TALL_ND), ["x"] * 50, None, [None] * 50, seed=0)
    assert html.count("<circle") == 20 and "20 of 50 items, drawn" in html


def test_the_page_escapes_what_it_shows():
    names, values = ["<script>alert(1)</script>"] * 50, ["R&B <b>"] * 25 + ["x"] * 25
    html = page(project(TALL_ND), names, "<kind>", values, seed=0)
    assert not re.search(r"https?://|<script|<b>|<kind>", html)
    assert "&lt;script&gt;" in html and "R&amp;B &lt;b&gt;" in html and "coloured by &lt;kind&gt;" in html


def test_the_telling_attribute_has_few_values_and_most_items():
    shelf = [{"id": str(n), "brand": "ab"[n % 2], "kind": "abc"[n % 3], "one": "x"} for n in range(10)]
    shelf[0]["rare"], shelf[1]["rare"] = "a", "b"
    assert telling_attribute(shelf) == "brand"
    del shelf[3]["brand"]
    assert telling_attribute(shelf) == "brand"
    assert telling_attribute([{"one": "x"}, {}]) is None and telling_attribute([{}, {}]) is None


def test_of_a_list_the_first_entry_counts():
    assert attribute_values([{"genres": "Drama, Comedy"}, {}, {"genres": "War"}], "genres") == ["Drama", None, "War"]


@pytest.mark.parametrize(
    ("attributes", "there"),
    [
        ([{"b": "1"}, {"a": "2"}, {"a": "3"}], "a, b"),
        ([{}], "none at all"),
        ([{f"a{n}": "x" for n in range(30)}], ", ".join(f"a{n}" for n in range(20)) + ", ..."),
    ],
)
def test_an_unknown_attribute_is_one_line(attributes, there):
    with pytest.raises(MolarError) as error:
        attribute_values(attributes, "c")
    assert str(error.value) == f"no item has an attribute 'c'; there is {there}"
