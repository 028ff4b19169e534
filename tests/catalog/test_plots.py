"""The tables behind `dvc plots show`: counted by hand, and every one drawn by dvc.yaml."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.catalog.plots import SPANS, in_buckets, over_time
from tests.catalog.shop import ingest, ingest_params, png, write_shop
from tests.import_closure import ROOT


def table(folder: Path, name: str) -> list[tuple[str, ...]]:
    with (folder / "plots" / f"{name}.tsv").open(encoding="utf-8", newline="") as handle:
        header, *rows = csv.reader(handle, delimiter="\t")
    assert header[0] == "from"
    return [tuple(row[1:]) for row in rows]


def test_the_shop_counted_by_hand(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "images" / "b.png").write_bytes(png(40, 20))
    out = ingest(ingest_params(root), tmp_path / "catalog").directory
    assert table(out, "interactions_per_user") == [("3 to 4", "2")]
    assert table(out, "interactions_per_item") == [("2", "3")]
    assert table(out, "interactions_over_time")[:2] == [("10", "1"), ("11", "1")]
    # b: Boot; c: Cup, A vessel, Potter; a: Apple, A fruit, Orchard
    assert table(out, "text_length") == [
        ("3 to 4", "1"),
        ("5 to 6", "0"),
        ("7 to 9", "0"),
        ("10 to 14", "0"),
        ("15 to 19", "2"),
    ]
    assert table(out, "image_sizes")[0] == ("7 to 9", "0.5") and table(out, "image_sizes")[-1] == ("30 to 49", "0.5")
    assert dict(table(out, "coverage")) == {
        "title of items": "1.0",
        "title of interactions": "1.0",
        "text of items": "0.6667",
        "text of interactions": "0.6667",
        "caption of items": "0.0",
        "caption of interactions": "0.0",
        "summary of items": "0.0",
        "summary of interactions": "0.0",
        "attributes of items": "0.6667",
        "attributes of interactions": "0.6667",
        "image of items": "0.6667",
        "image of interactions": "0.6667",
    }


@pytest.mark.parametrize(
    ("times", "first", "last"),
    [
        ([0, 1, 2], "0", "2"),
        ([881250949, 891717742], "1997-12-04", "1998-04-05"),
        ([1588687728923, 1599584891516], "2020-05-05", "2020-09-06"),
        ([1588687728923, 1588687729923], "2020-05-05 14:08:48.923", "2020-05-05 14:08:49.923"),
        ([881250949, 881260949], "1997-12-04 15:55", "1997-12-04 18:42"),
        ([881250949, 881250949, 10**17], str(881250949), None),
        ([-5, 5], "-5", "5"),
    ],
)
def test_times_are_read_in_the_unit_of_their_clock(times, first, last) -> None:
    rows = over_time(np.array(times))
    assert rows[0][1] == first and len(rows) <= SPANS
    assert sum(count for _, _, count in rows) == len(times)
    if last is not None:
        assert first <= rows[-1][1] <= last or first.lstrip("-").isdigit()


def test_every_value_is_in_the_bucket_that_names_it() -> None:
    values = [random.Random(0).randrange(10**power) for power in range(1, 8) for _ in range(50)]
    rows = in_buckets(np.array(values))
    for start, label, count in rows:
        low, _, high = label.replace(",", "").partition(" to ")
        assert start == int(low)
        assert count == sum(int(low) <= value <= int(high or low) for value in values)
    assert sum(count for *_, count in rows) == len(values)
    assert in_buckets(np.array([], dtype=np.int64)) == []
    assert in_buckets(np.array([10, 70, 100]))[0][:2] == (10, "10 to 14")


def test_dvc_yaml_draws_each_table_by_columns_it_has(tmp_path) -> None:
    out = ingest(ingest_params(write_shop(tmp_path / "raw")), tmp_path / "catalog").directory
    plots = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["plots"]
    drawn = {}
    for entry in (values for plot in plots for values in plot.values()):
        for path, column in entry["y"].items():
            if path.startswith("data/catalog/"):
                drawn[Path(path).name] = {entry["x"], column}
                assert entry["template"] == "bars" and entry["x_label"] and entry["y_label"]
    files = {path.name: path for path in (out / "plots").iterdir()}
    assert drawn.keys() == files.keys()
    for name, columns in drawn.items():
        assert {"from"} | columns == set(files[name].read_text("utf-8").splitlines()[0].split("\t"))
    json.loads((ROOT / ".dvc" / "plots" / "bars.json").read_text("utf-8"))
