"""Source `tables` as JSON lines: the same data as the CSV, and line numbers for what cannot be read."""

import csv
import gzip
import json
from pathlib import Path

from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.catalog.sources import json_tables
from tests.catalog.shop import ingest, ingest_params, refusal, write_shop


def as_json_lines(root: Path) -> Path:
    """The shop's CSV files as JSON lines: times as numbers, empty values left out."""
    for name in ("interactions", "items"):
        with (root / f"{name}.csv").open() as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        for row in rows:
            if "timestamp" in row:
                row["timestamp"] = int(row["timestamp"])
        (root / f"{name}.csv").unlink()
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def read(root: Path, columns: dict | None = None, **changes: object) -> tuple[Raw, Quarantine]:
    quarantine = Quarantine()
    return sources.read(ingest_params(root, columns, **changes), quarantine), quarantine


def message(root: Path) -> str:
    return refusal(lambda: read(root))


def test_the_catalogue_equals_the_one_from_csv(tmp_path) -> None:
    by_csv = ingest(ingest_params(write_shop(tmp_path / "csv")), tmp_path / "a").facts["files"]
    root = as_json_lines(write_shop(tmp_path / "lines"))
    by_lines = ingest(ingest_params(root, source="auto"), tmp_path / "b").facts["files"]
    assert {name for name in by_csv if by_csv[name] != by_lines[name]} == {"summary.json"}  # names its files


def test_gzipped_lines(tmp_path) -> None:
    root = as_json_lines(write_shop(tmp_path / "raw"))
    path = root / "interactions.jsonl"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(root)[0].interactions) == 6


def test_every_bad_line_has_its_number(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_tables, "BLOCK", 2)
    root = as_json_lines(write_shop(tmp_path / "raw"))
    lines = [
        '{"user": 7, "item": "a", "timestamp": 10.0, "rating": 4}',
        "",
        "no record",
        '{"user": "u", "item": "a", "timestamp": 1.5, "rating": 4}',
        '{"user": ["u"], "item": "a", "timestamp": 1, "rating": 4}',
        '{"item": "a", "timestamp": 1, "rating": 4}',
        '{"user": "u", "item": "", "timestamp": 1, "rating": 4}',
        '{"user": "u", "item": "b", "timestamp": "12", "rating": "4.5"}',
        '{"user": "u", "item": "b", "timestamp": 12, "rating": null}',
        '{"user": "u", "item": "b", "timestamp": true, "rating": 1}',
        "[1]",
    ]
    (root / "interactions.jsonl").write_text("\n".join(lines))
    raw, quarantine = read(root, {"rating": "rating"})
    events = raw.interactions
    assert (events.user_ids, events.row.tolist(), events.timestamp.tolist()) == (["7", "u"], [1, 8], [10, 12])
    assert events.rating is not None and events.rating.tolist() == [4.0, 4.5]
    assert sorted(quarantine.entries) == [
        ("interactions.jsonl", 3, "line is no record (neither JSON nor a literal)", "no record"),
        ("interactions.jsonl", 4, "timestamp is not a whole number", "1.5"),
        ("interactions.jsonl", 5, "'user' is a list or an object", '["u"]'),
        ("interactions.jsonl", 6, "user is empty", None),
        ("interactions.jsonl", 7, "item is empty", ""),
        ("interactions.jsonl", 9, "rating is not a number", None),
        ("interactions.jsonl", 10, "timestamp is not a whole number", "true"),
        ("interactions.jsonl", 11, "line is no record (neither JSON nor a literal)", "[1]"),
    ]
    assert raw.rows_read["interactions.jsonl"] == 10


def test_other_keys_are_attributes_as_text(tmp_path) -> None:
    root = as_json_lines(write_shop(tmp_path / "raw"))
    record = {
        "id": 5,
        "title": "T",
        "text": "x",
        "image": None,
        "size": 2.0,
        "new": True,
        "tags": ["é", 1],
        "none": None,
    }
    lines = [json.dumps(record), '{"id": {"a": 1}}', '{"id": "6", "nan": NaN, "half": "\\ud83d"}', '{"id": "5"}']
    (root / "items.jsonl").write_text("\n".join(lines))
    raw, quarantine = read(root)
    assert [(item.item_id, item.row, item.attributes) for item in raw.items] == [
        ("5", 1, {"size": "2", "new": "true", "tags": '["é", 1]'}),
        ("6", 3, {"half": "?"}),
    ]
    assert quarantine.entries == [
        ("items.jsonl", 2, "'id' is a list or an object", '{"a": 1}'),
        ("items.jsonl", 4, "item id stands in an earlier row too", "5"),
    ]


def test_mistakes_are_one_line(tmp_path, monkeypatch) -> None:
    root = as_json_lines(write_shop(tmp_path / "raw"))
    (root / "interactions.jsonl").write_text('{"user": "u", "film": "a", "timestamp": 1}\n')
    assert message(root) == (
        f"{root}/interactions.jsonl has no column 'item' (it has user, film, timestamp): correct ingest.columns.item"
    )
    (root / "interactions.jsonl").write_text("\n")
    assert message(root) == f"{root}/interactions.jsonl is empty: it needs a JSON object a line"
    monkeypatch.setattr(json_tables, "MOST_KEYS", 4)
    assert message(root).startswith(f"{root}/items.jsonl holds more than 4 different keys by line 1, and each would")


def test_a_file_without_a_readable_line_is_told_by_quarantine(tmp_path) -> None:
    root = as_json_lines(write_shop(tmp_path / "raw"))
    (root / "items.jsonl").write_text("nothing\n")
    (root / "interactions.jsonl").write_text("[]\n")
    raw, quarantine = read(root)
    assert not raw.items and not len(raw.interactions)
    assert [entry[:2] for entry in quarantine.entries] == [("items.jsonl", 1), ("interactions.jsonl", 1)]
