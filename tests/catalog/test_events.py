import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.sources import events
from pipeline.catalog.sources.events import PLAIN_CSV, Layout, read_interactions
from tests.catalog.shop import refusal

COLUMNS = ("user", "item", "timestamp", "rating")
ids = st.sampled_from(["ann", "bob", "Zoë", '"q, ""r"""', "0", "NA", "null", " x ", ""])
times = st.sampled_from(["10", "-3", " 7 ", "0x1F", "1e3", "noon", "", "NA", "9" * 18, "9" * 19, "+5", "5.0"])
ratings = st.sampled_from(["4", "3.5", " 2 ", "nan", "inf", "1e400", "good", "", ".5e1"])
lines = st.one_of(
    st.tuples(ids, ids, times, ratings).map(",".join),
    st.sampled_from(["", "ann,a", "ann,a,1,2,3", '"two\nlines",a,1,2']),
)


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("user,item,timestamp,rating\n" + "".join(f"{row}\n" for row in rows), "utf-8")
    return path


def told(result) -> tuple:
    """Everything about interactions that a reader can see."""
    found, rows_read = result
    names = [(found.user_ids[u], found.item_ids[i]) for u, i in zip(found.user, found.item, strict=True)]
    return names, found.timestamp.tolist(), found.rating.tolist(), found.row.tolist(), rows_read


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=8))
def test_every_row_is_read_or_quarantined_and_both_ways_of_reading_agree(tmp_path: Path, rows: list[str]) -> None:
    path = write(tmp_path / "interactions.csv", rows)
    quarantine = Quarantine()
    found, rows_read = result = read_interactions(path, COLUMNS, quarantine)
    assert len(found) + len(quarantine.entries) == rows_read == sum(row.strip(",") != "" for row in rows)
    assert np.isfinite(found.rating).all() and "" not in {*found.user_ids, *found.item_ids}
    nobody = Quarantine()
    careful = events._read_carefully(path, COLUMNS, nobody, PLAIN_CSV)
    assert told(careful) == told(result)
    assert (careful[0].user_ids, careful[0].item_ids) == (found.user_ids, found.item_ids)
    assert sorted(nobody.entries, key=str) == sorted(quarantine.entries, key=str)


def test_a_clean_file_is_read_once_whatever_its_blocks(tmp_path, monkeypatch) -> None:
    rows = [f"u{n % 701},i{n % 97},{n // 3},{n % 5}" for n in range(20_000)]
    path = write(tmp_path / "interactions.csv", rows)
    whole = told(read_interactions(path, COLUMNS, Quarantine()))
    monkeypatch.setattr(events, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(events, "_read_carefully", lambda *_: pytest.fail("a clean file needs no second reading"))
    found, rows_read = read_interactions(path, COLUMNS, Quarantine())
    assert told((found, rows_read)) == whole
    assert (found.user_ids[:3], found.item_ids[-1], rows_read) == (["u0", "u1", "u2"], "i96", 20_000)


def test_a_quoted_line_feed_at_the_edge_of_a_block_is_no_end_of_a_row(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(events, "BLOCK_BYTES", 64)
    rows = [f'"user\n{n}",a,{n},1' for n in range(30)]
    found, rows_read = read_interactions(write(tmp_path / "interactions.csv", rows), COLUMNS, Quarantine())
    assert rows_read == 30 and found.user_ids[29] == "user\n29" and found.row.tolist() == list(range(2, 32))


@pytest.mark.parametrize("bad_row", ["", "u,i,noon,1\n"], ids=["typed at once", "read again as text"])
def test_a_gzipped_file_is_the_file(tmp_path, bad_row) -> None:
    rows = [f"u{n % 70},i{n % 9},{n // 3},{n % 5}" for n in range(2_000)]
    path = write(tmp_path / "interactions.csv", [*rows, bad_row.strip()])
    plain = told(read_interactions(path, COLUMNS, Quarantine()))
    path.write_bytes(gzip.compress(path.read_bytes()))  # under the same name: a browser may have unpacked the other
    assert told(read_interactions(path, COLUMNS, Quarantine())) == plain
    path.write_bytes(path.read_bytes()[:-200])
    assert refusal(lambda: read_interactions(path, COLUMNS, Quarantine())) == (
        f"{path} breaks off or is damaged: download it again"
    )


def test_a_given_header_is_no_row_and_its_quotes_are_characters(tmp_path) -> None:
    path = write(tmp_path / "a.inter", ['"ann,a,1.0,2', "bob,b", "bob,b,2.5,1"])
    quarantine = Quarantine()
    found, rows_read = read_interactions(path, COLUMNS, quarantine, Layout(",", list(COLUMNS), headed=True))
    assert (found.user_ids, found.timestamp.tolist(), found.row.tolist(), rows_read) == (['"ann'], [1], [2], 3)
    assert [(row, reason) for _, row, reason, _ in quarantine.entries] == [
        (3, "wrong number of fields"),
        (4, "timestamp is not a whole number"),
    ]


def test_a_header_alone_is_no_interaction(tmp_path) -> None:
    found, rows_read = read_interactions(write(tmp_path / "interactions.csv", []), COLUMNS, Quarantine())
    assert (len(found), rows_read, found.user_ids) == (0, 0, [])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["::", ":", "a", "1", "\n", "é"]), max_size=30), st.integers(1, 7))
def test_double_colons_become_tabs_wherever_a_piece_ends(tmp_path: Path, parts: list[str], piece: int) -> None:
    content = ("".join(parts) + "\n").encode()
    (tmp_path / "ratings.dat").write_bytes(content)
    stream = events._opened(tmp_path / "ratings.dat", "::")
    read = b""
    while got := stream.read(piece):
        read += got
    assert read == content.replace(b"::", b"\t")
