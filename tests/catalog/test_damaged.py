"""What damaged copies of real files have taught: a line of quarantine or of error, never a traceback."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from tests.catalog import test_movielens, test_pixelrec
from tests.catalog.shop import INTERACTIONS, ingest_params, refusal, write_shop


def message(root, source) -> str:
    return refusal(lambda: sources.read(ingest_params(root, source=source), Quarantine()))


@pytest.mark.parametrize("name", ["interactions.csv", "items.csv"])
def test_a_row_with_too_many_fields_that_is_no_utf8_either(tmp_path, name) -> None:
    root = write_shop(tmp_path / "raw")
    with (root / name).open("ab") as file:
        file.write(b"caf\xe9,a,3,4,5,6,7\n")
    assert "save it as UTF-8 text" in message(root, "tables")


def test_a_header_that_is_no_utf8(tmp_path) -> None:
    root = test_pixelrec.published(tmp_path / "raw")
    (root / "item_info.csv").write_bytes(b"\x80" + (root / "item_info.csv").read_bytes())
    assert "item_info.csv cannot be read" in message(root, "pixelrec")


def test_a_column_twice(tmp_path) -> None:
    root = test_pixelrec.published(tmp_path / "raw")
    text = (root / "item_info.csv").read_text("utf-8")
    (root / "item_info.csv").write_text(text.replace("view_number", "title", 1), "utf-8")
    assert message(root, "pixelrec").endswith("has more than one column 'title': rename all but one")
    (root / "interaction.csv").write_text("item_id,user_id,timestamp,item_id\ni1,u,1,i1\n", "utf-8")
    assert message(root, "pixelrec").endswith("has more than one column 'item_id': rename all but one")


def test_a_film_that_breaks_off_within_its_id(tmp_path) -> None:
    root = test_movielens.one_million(tmp_path / "raw")
    with (root / "movies.dat").open("a") as file:
        file.write("38")
    quarantine = Quarantine()
    raw = sources.read(ingest_params(root, source="movielens"), quarantine)
    assert len(raw.items) == 3 and quarantine.entries == [("movies.dat", 4, "wrong number of fields", "38")]


def test_a_parquet_file_cut_short_and_one_whose_text_is_no_utf8(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "interactions.csv").unlink()
    path = root / "interactions.parquet"
    latin = pa.array([b"Zo\xeb", b"bob"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"user": latin, "item": ["a", "b"], "timestamp": [1, 2]}), path)
    assert "interactions.parquet cannot be read" in message(root, "tables")
    path.write_bytes(path.read_bytes()[:-9])
    assert message(root, "tables").endswith("write it again as Parquet")


def test_parquet_batches_number_rows_as_one_table_would(tmp_path, monkeypatch) -> None:
    from pipeline.catalog.sources import events

    monkeypatch.setattr(events, "BATCH_ROWS", 4)
    root = write_shop(tmp_path / "raw")
    rows = [line.split(",") for line in INTERACTIONS.splitlines()[1:]]
    users, items, times = ([row[column] for row in rows] for column in range(3))
    (root / "interactions.csv").unlink()
    users[4] = ""
    table = pa.table({"user": users, "item": items, "timestamp": [int(time) for time in times]})
    pq.write_table(table, root / "interactions.parquet")
    quarantine = Quarantine()
    raw = sources.read(ingest_params(root), quarantine)
    assert raw.interactions.row.tolist() == [1, 2, 3, 4, 6] and raw.rows_read["interactions.parquet"] == 6
    assert quarantine.entries == [("interactions.parquet", 5, "user is empty", "")]
