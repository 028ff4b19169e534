"""One record a line: hostile lines go to quarantine, and whatever stands in a field can be written."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.sources import json_lines
from pipeline.catalog.sources.amazon_items import MOST_DETAILS, MOST_FEATURES, picture_url, raw_item
from pipeline.catalog.sources.json_lines import records
from pipeline.catalog.sources.plain import joined, plain, shortened


def parsed(tmp_path, content: bytes) -> tuple[list, Quarantine]:
    quarantine = Quarantine()
    (tmp_path / "lines.json").write_bytes(content)
    return list(records(tmp_path / "lines.json", quarantine)), quarantine


HOSTILE = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "minus signs": b"-" * 100_000 + b"1",
    "a sum": b"1+" * 50_000 + b"1",
    "a call": b"{'a': __import__('os').system('true')}",
    "an f-string": b"{'a': f'{1+1}'}",
    "no hashable key": b"{[]: 1}",
    "a NUL": b"{'a': '\x00'}",
    "endless digits": b"{'a': " + b"9" * 5_000 + b"}",
    "bytes that are no text": b'{"a": "\xff"}',
}


@pytest.mark.parametrize("line", HOSTILE)
def test_a_hostile_line_is_quarantined_and_the_next_one_read(line, tmp_path) -> None:
    found, quarantine = parsed(tmp_path, HOSTILE[line] + b"\n{'a': 'it\\'s'}\n")
    assert found == [(1, None), (2, {"a": "it's"})]
    assert [entry[1] for entry in quarantine.entries] == [1]
    assert quarantine.table().num_rows == 1


def test_a_line_above_the_bound_is_never_held(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 100)
    fits = json.dumps({"a": "x" * 90}).encode()
    assert len(fits) == 99
    found, quarantine = parsed(tmp_path, fits + b"\n" + b"x" * 1_000 + b"\n" + b"y" * 101 + b"\n" + fits)
    assert [number for number, record in found if record] == [1, 4]
    assert quarantine.entries == [
        ("lines.json", 2, "line is above 100 bytes", None),
        ("lines.json", 3, "line is above 100 bytes", None),
    ]


def test_a_long_literal_never_meets_the_parser(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LITERAL", 9)
    assert parsed(tmp_path, b"{'a': 1}\n{'a': 100}\n{\"a\": 1000}\n")[0] == [(1, {"a": 1}), (2, None), (3, {"a": 1000})]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("a&lt;br&gt;b &amp;quot;c&amp;quot;", 'a b "c"'),
        ("<p>One</p><p>Two</p>", "One Two"),
        ("<b>bol</b>d <i>and</i> plain", "bold and plain"),
        ("<script>if (a<b) c()</script>word<style>p {}</style>", "word"),
        ("<SCRIPT>never closed", None),
        ("5 < 6 > 4, I <3 you", "5 < 6 > 4, I <3 you"),
        ("<!-- a comment -->word", "word"),
        ("  two\n\t words ", "two words"),
        ("None", None),
        ("", None),
        (None, None),
        (True, None),
        (float("nan"), None),
        (23.26, "23.26"),
        ("half a \ud83d pair", "half a ? pair"),
    ],
)
def test_plain_text(written, read) -> None:
    assert plain(written) == read


def test_lists_of_words() -> None:
    assert joined(["a", "", None, "None", "<br>", 3, "b"], "; ") == "a; 3; b"
    assert joined(["", "a", "b", "c"], most=2) == "a b"
    assert joined([]) is joined({}) is joined([""]) is None
    assert shortened("one two three", 9) == "one two"
    assert shortened("one two three", 7) == "one two"
    assert shortened("unbroken", 3) == "unb"


def test_time_grows_with_the_length_of_a_page_not_with_its_square() -> None:
    for text in ("<" * 10**6, "<a" * 5 * 10**5, "<" + "a" * 10**6, "<script>" * 10**5, "<!" * 5 * 10**5, "&" * 10**6):
        plain(text)  # minutes or hours if any pattern scanned back


def test_details_and_features_are_bounded() -> None:
    record = {
        "details": {f"detail {n}": "word " * 100 for n in range(100)} | {"x" * 50: "a name too long"},
        "features": [f"feature {n}" for n in range(100)],
    }
    attributes = raw_item(record, "B", 1, {}).attributes
    assert len(attributes) == MOST_DETAILS + 1
    assert attributes["features"] == "; ".join(f"feature {n}" for n in range(MOST_FEATURES))
    assert max(map(len, attributes.values())) <= 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
WORDS = ["title", "description", "brand", "store", "author", "main_category", "main_cat", "category", "categories"]
REST = ["price", "details", "features", "feature", "images", "imageURL", "imageURLHighRes", "imUrl"]
BROKEN_URL = st.just([{"hi_res": "http://[::1/a.jpg", "variant": 3}])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(WORDS + REST), JSON | BROKEN_URL))
def test_whatever_stands_in_a_record_an_item_comes_out_that_can_be_written(record) -> None:
    item = raw_item(record, "B", 1, {"C": "images/C.jpg"})
    words = [item.title, item.text, *item.attributes, *item.attributes.values()]
    assert pa.array(words, pa.string()).to_pylist() == words
    assert all(word is None or (word.strip() and word == word.strip()) for word in words)
    assert item.image is None
    url = picture_url(record)
    assert url is None or url.startswith("http")
