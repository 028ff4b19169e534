"""Source `tables`: exact words for each mistake, exact row numbers for each bad row."""

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.params.ingest import Ingest
from tests.catalog.shop import INTERACTIONS, ITEMS, ingest_params, refusal, write_shop


def read(params: Ingest) -> tuple[Raw, Quarantine]:
    quarantine = Quarantine()
    return sources.read(params, quarantine), quarantine


def message(params: Ingest) -> str:
    return refusal(lambda: read(params))


def test_no_such_path(tmp_path) -> None:
    root = tmp_path / "nowhere"
    assert message(ingest_params(root)) == (
        f"ingest.path = '{root}' is no folder: put the raw data there or correct the path in params.yaml"
    )


def test_no_table(tmp_path) -> None:
    (tmp_path / "items.csv").write_text(ITEMS)
    assert message(ingest_params(tmp_path)) == (
        f"{tmp_path} holds none of interactions.csv, interactions.parquet, interactions.jsonl: "
        f"add one (source 'tables')"
    )


def test_two_tables(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "items.parquet").write_bytes(b"")
    assert message(ingest_params(root)) == f"{root} holds both items.csv and items.parquet: keep one"


def test_missing_column_of_interactions(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    assert message(ingest_params(root, {"timestamp": "time"})) == (
        f"{root}/interactions.csv has no column 'time' (it has user, item, timestamp): correct ingest.columns.timestamp"
    )


def test_missing_optional_column_may_be_set_to_null(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    assert message(ingest_params(root, {"caption": "caption"})) == (
        f"{root}/items.csv has no column 'caption' (it has id, title, text, image, brand): "
        f"correct ingest.columns.caption or set it to null"
    )
    assert read(ingest_params(root, {"caption": None}))[0].items[0].caption is None


def test_missing_attribute_column(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    assert message(ingest_params(root, {"attributes": ["brand", "size"]})) == (
        f"{root}/items.csv has no column 'size' (it has id, title, text, image, brand): "
        f"correct ingest.columns.attributes[1]"
    )


def test_a_column_twice(tmp_path) -> None:
    root = write_shop(tmp_path / "raw", "user,item,item,timestamp\nu,a,b,1\n")
    assert (
        message(ingest_params(root)) == f"{root}/interactions.csv has more than one column 'item': rename all but one"
    )


def test_min_rating_without_ratings(tmp_path) -> None:
    assert message(ingest_params(write_shop(tmp_path / "raw"), min_rating=4.0)) == (
        "ingest.min_rating = 4 needs ratings: name their column in ingest.columns.rating, "
        "or set ingest.min_rating to null"
    )


def test_an_empty_file(tmp_path) -> None:
    root = write_shop(tmp_path / "raw", "")
    assert message(ingest_params(root)) == f"{root}/interactions.csv is empty: it needs a header line and rows"


def test_a_file_that_is_not_utf8(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "items.csv").write_bytes("id,title,text,image,brand\na,Café,,,\n".encode("latin-1"))
    assert message(ingest_params(root)).startswith(f"{root}/items.csv cannot be read (")
    assert message(ingest_params(root)).endswith("): save it as UTF-8 text")


def test_attributes_default_to_every_other_column(tmp_path) -> None:
    root = write_shop(tmp_path / "raw", items="id,title,text,image,brand,size\na,Apple,,,Orchard,5\n")
    assert read(ingest_params(root))[0].items[0].attributes == {"brand": "Orchard", "size": "5"}
    listed = read(ingest_params(root, {"attributes": ["size"]}))[0]
    assert listed.items[0].attributes == {"size": "5"}


def test_bad_rows_carry_their_line_number(tmp_path) -> None:
    text = (
        "user,item,timestamp,rating\n"  # row 1
        "ann,a,10,4\n"
        "ann,a,ten,4\n"
        "ann,a\n"
        "\n"  # a blank line is nothing, and moves no number
        "ann,a,10.5,4\n"
        ",a,10,4\n"
        "ann,,10,4\n"
        "ann,a,,4\n"
        "ann,a,11,good\n"
        "ann,a,12,nan\n"
        "ann,a,13,.5e1\n"
        "ann,a,99999999999999999999,4\n"
        "\n"
    )
    raw, quarantine = read(ingest_params(write_shop(tmp_path / "raw", text), {"rating": "rating"}))
    assert sorted(quarantine.entries) == [
        ("interactions.csv", 3, "timestamp is not a whole number", "ten"),
        ("interactions.csv", 4, "wrong number of fields", "ann,a"),
        ("interactions.csv", 6, "timestamp is not a whole number", "10.5"),
        ("interactions.csv", 7, "user is empty", ""),
        ("interactions.csv", 8, "item is empty", ""),
        ("interactions.csv", 9, "timestamp is not a whole number", ""),
        ("interactions.csv", 10, "rating is not a number", "good"),
        ("interactions.csv", 11, "rating is not a number", "nan"),
        ("interactions.csv", 13, "timestamp is not a whole number", "99999999999999999999"),
    ]
    assert raw.interactions.row.tolist() == [2, 12]
    assert raw.interactions.timestamp.tolist() == [10, 13]
    assert raw.interactions.rating is not None and raw.interactions.rating.tolist() == [4.0, 5.0]
    assert raw.rows_read["interactions.csv"] == 11


def test_item_rows_without_or_with_a_used_id(tmp_path) -> None:
    items = "id,title,text,image,brand\na,Apple,,,\n,Nameless,,,\na,Again,,,\nb,Boot,,,\n"
    raw, quarantine = read(ingest_params(write_shop(tmp_path / "raw", items=items)))
    assert [(item.item_id, item.title, item.row) for item in raw.items] == [("a", "Apple", 2), ("b", "Boot", 5)]
    assert quarantine.entries == [
        ("items.csv", 3, "item id is empty", "Nameless"),
        ("items.csv", 4, "item id stands in an earlier row too", "a"),
    ]


def test_quoted_text_may_hold_commas_quotes_and_lines(tmp_path) -> None:
    items = 'id,title,text,image,brand\na,"Apple, ""red""","two\nlines",,\n'
    item = read(ingest_params(write_shop(tmp_path / "raw", items=items)))[0].items[0]
    assert (item.title, item.text) == ('Apple, "red"', "two\nlines")


def test_windows_files(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    for name, text in (("interactions.csv", INTERACTIONS), ("items.csv", ITEMS)):
        (root / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    raw, quarantine = read(ingest_params(root))
    assert not quarantine.entries
    assert [item.item_id for item in raw.items] == ["a", "b", "c", "d"]
    assert len(raw.interactions) == 6


@pytest.mark.parametrize(
    ("kind", "unit"),  # Parquet has no instants in seconds: they come back, and are kept, in milliseconds
    [(pa.int64(), 1), (pa.float64(), 1), (pa.timestamp("s"), 1000), (pa.string(), 1), (pa.int32(), 1)],
)
def test_parquet_equals_csv(tmp_path, kind, unit) -> None:
    by_csv = read(ingest_params(write_shop(tmp_path / "csv")))[0]
    root = write_shop(tmp_path / "parquet")
    for name in ("interactions", "items"):
        table = csv.read_csv(root / f"{name}.csv", convert_options=csv.ConvertOptions(strings_can_be_null=True))
        if name == "interactions":
            table = table.set_column(2, "timestamp", table["timestamp"].cast(kind))
        (root / f"{name}.csv").unlink()
        pq.write_table(table, root / f"{name}.parquet")
    raw, quarantine = read(ingest_params(root))
    assert not quarantine.entries
    assert raw.interactions.timestamp.tolist() == [t * unit for t in by_csv.interactions.timestamp.tolist()]
    assert raw.interactions.user_ids == by_csv.interactions.user_ids
    assert [(i.item_id, i.title, i.text, i.attributes) for i in raw.items] == [
        (i.item_id, i.title, i.text, i.attributes) for i in by_csv.items
    ]


def test_parquet_rows_without_a_value(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "interactions.csv").unlink()
    table = pa.table({"user": ["u", None, "u"], "item": ["a", "a", "b"], "timestamp": pa.array([1.0, 2.0, 2.5])})
    pq.write_table(table, root / "interactions.parquet")
    raw, quarantine = read(ingest_params(root))
    assert quarantine.entries == [
        ("interactions.parquet", 2, "user is empty", None),
        ("interactions.parquet", 3, "timestamp is not a whole number", "2.5"),
    ]
    assert raw.interactions.row.tolist() == [1]


def test_parquet_column_without_a_text_form(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "items.csv").unlink()
    table = pa.table({"id": ["a"], "title": ["Apple"], "text": [""], "image": [None], "tags": [["red", "round"]]})
    pq.write_table(table, root / "items.parquet")
    assert message(ingest_params(root)) == (
        f"{root}/items.parquet, column 'tags': a column of type list<element: string> cannot be read: store it as text"
    )


def test_row_numbers_hold_beyond_the_readers_first_block(tmp_path) -> None:
    lines = [f"user{n},a,{n}" for n in range(150_000)]  # about 2.5 MB; Arrow reads 1 MiB at a time
    lines[100_000], lines[149_000] = "user,a", "user,a,noon"
    quarantine = read(ingest_params(write_shop(tmp_path / "raw", "user,item,timestamp\n" + "\n".join(lines))))[1]
    assert quarantine.entries == [
        ("interactions.csv", 100_002, "wrong number of fields", "user,a"),
        ("interactions.csv", 149_002, "timestamp is not a whole number", "noon"),
    ]


def test_a_record_of_two_lines_counts_once(tmp_path) -> None:
    items = 'id,title,text,image,brand\na,Apple,"two\nlines",,\nb,Boot\nc,Cup,,,\n'
    raw, quarantine = read(ingest_params(write_shop(tmp_path / "raw", items=items)))
    assert [(item.item_id, item.row) for item in raw.items] == [("a", 2), ("c", 4)]
    assert quarantine.entries == [("items.csv", 3, "wrong number of fields", "b,Boot")]
