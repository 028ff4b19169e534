"""The whole of ingest: nothing is lost without a trace, nothing held out leaks, and equal inputs give equal bytes."""

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.catalogue import open_cold, open_sequences
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest
from tests.catalog.shop import INTERACTIONS, ITEMS, ingest, ingest_params, png_header, write_shop


def message(params: Ingest, tmp_path: Path) -> str:
    with pytest.raises(MolarError) as error:
        ingest(params, tmp_path / "catalog")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "catalog").exists(), "a refused ingest leaves nothing behind"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
    return str(error.value)


def test_unknown_item_and_text_in_a_timestamp_above_the_limit(tmp_path) -> None:
    root = write_shop(tmp_path / "raw", INTERACTIONS + "ann,zebra,40\nann,a,noon\nbob,zebu,50\n")
    assert message(ingest_params(root, max_quarantine=0.1), tmp_path) == (
        f"{root}/interactions.csv: 3 of 9 rows (33.3%) are unusable, above ingest.max_quarantine = 0.1: "
        f"2 x item is not in items.csv (row 8: 'zebra', row 10: 'zebu'); "
        f"1 x timestamp is not a whole number (row 9: 'noon'): mend the file or raise the limit"
    )


def test_the_limit_itself_is_allowed_and_bad_rows_are_kept_with_reasons(tmp_path) -> None:
    root = write_shop(tmp_path / "raw", INTERACTIONS + "ann,zebra,40\nann,a,noon\n")
    artifact = ingest(ingest_params(root, max_quarantine=0.25), tmp_path / "catalog")
    assert pq.read_table(artifact.file("quarantine.parquet")).to_pylist() == [
        {"source": "interactions.csv", "row": 8, "reason": "item is not in items.csv", "value": "zebra"},
        {"source": "interactions.csv", "row": 9, "reason": "timestamp is not a whole number", "value": "noon"},
    ]
    assert len(open_sequences(artifact).items) == 6


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "picture file not found"),
        (b"", "picture file is empty"),
        (b"hello", "not a picture"),
        (png_header(64, 64), "picture is truncated or damaged"),
        (png_header(20_000, 3_000), "picture is above ingest.max_image_pixels"),
    ],
)
def test_pictures_above_the_limit(tmp_path, content, reason) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "images" / "b.png").unlink()
    if content is not None:
        (root / "images" / "b.png").write_bytes(content)
    assert message(ingest_params(root, max_quarantine=0.4), tmp_path) == (
        f"{root}/images: 1 of 2 pictures (50.0%) are unusable, above ingest.max_quarantine = 0.4: "
        f"1 x {reason} (row 3: 'b.png'): mend the file or raise the limit"
    )


def test_empty_after_k_core(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    assert message(ingest_params(root, k_core=4), tmp_path) == (
        f"{root}: no interaction is left after ingest.k_core = 4: loosen it in params.yaml"
    )


def test_no_interactions_at_all(tmp_path) -> None:
    root = write_shop(tmp_path / "raw", "user,item,timestamp\n")
    assert message(ingest_params(root), tmp_path) == f"{root}/interactions.csv holds no usable interaction: add rows"


def test_listed_cold_items_need_the_list(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    assert message(ingest_params(root, cold_items="listed"), tmp_path) == (
        f"{root}/cold_items.txt not found: write one item id a line, or set ingest.cold_items to 'none'"
    )


def test_cold_items_must_be_in_the_item_table(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    (root / "cold_items.txt").write_text("c\n\nzebra\n", "utf-8")
    assert message(ingest_params(root, cold_items="listed"), tmp_path) == (
        f"{root}/cold_items.txt: 1 of 2 rows (50.0%) are unusable, above ingest.max_quarantine = 0: "
        f"1 x item is not in items.csv (row 3: 'zebra'): mend the file or raise the limit"
    )


def test_summary_counts_every_step(tmp_path) -> None:
    interactions = "user,item,timestamp,rating\n" + "".join(
        f"{row},5\n" for row in ("p,a,1", "p,b,2", "p,a,3", "q,a,4", "q,b,5", "r,c,6", "q,d,7", "q,zebra,8")
    )
    root = write_shop(tmp_path / "raw", interactions + "p,c,9,1\n")
    (root / "cold_items.txt").write_text("d\n", "utf-8")
    changes = {"min_rating": 4.0, "duplicates": "first", "cold_items": "listed", "k_core": 2, "max_quarantine": 0.2}
    artifact = ingest(ingest_params(root, {"rating": "rating"}, **changes), tmp_path / "catalog")
    summary = json.loads(artifact.file("summary.json").read_text())
    assert [(s["step"], s["interactions"], s["users"], s["items"]) for s in summary["steps"]] == [
        ("rows read", 9, 0, 0),
        ("readable", 8, 3, 4),
        ("rating >= 4", 7, 3, 4),
        ("first of each user-item pair", 6, 3, 4),
        ("without cold items", 5, 3, 3),
        ("2-core", 4, 2, 2),
        ("cold choices that can be asked", 1, 1, 1),
    ]
    assert summary["items"] == {
        "all": 3,
        "warm": 2,
        "cold": 1,
        "with_title": 3,
        "with_text": 2,
        "with_caption": 0,
        "with_summary": 0,
        "with_attributes": 1,
        "with_image": 2,
    }
    assert summary["split"] == {
        "users": 2,
        "users_held_out": 0,
        "training": 4,
        "validation": 0,
        "test": 0,
        "cold": 1,
    }
    assert summary["quarantine"] == {"interactions.csv": {"item is not in items.csv": 1}}
    assert artifact.facts["interactions"] == 4


rows = st.tuples(
    st.sampled_from(["p", "q", "r", "s", ""]),
    st.sampled_from(["a", "b", "c", "d", "zebra"]),
    st.sampled_from(["1", "2", "3", "4", "noon"]),
    st.sampled_from(["1", "4", "5", "good"]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(rows, min_size=1, max_size=40),
    st.sampled_from(["all", "first", "last"]),
    st.sampled_from([None, 4.0]),
    st.integers(1, 2),
    st.sampled_from(["none", "listed"]),
)
def test_every_row_is_somewhere_and_no_held_out_item_is_trained_on(drawn, duplicates, min_rating, k_core, cold) -> None:
    text = "user,item,timestamp,rating\n" + "".join(",".join(row) + "\n" for row in drawn)
    with tempfile.TemporaryDirectory() as folder:
        root = write_shop(Path(folder) / "raw", text, ITEMS)
        (root / "cold_items.txt").write_text("d\n", "utf-8")
        params = ingest_params(
            root,
            {"rating": "rating"},
            duplicates=duplicates,
            min_rating=min_rating,
            k_core=k_core,
            cold_items=cold,
            max_quarantine=1.0,
        )
        try:
            artifact = ingest(params, Path(folder) / "catalog")
        except MolarError as error:
            assert "no interaction is left" in str(error) or "no usable interaction" in str(error)
            return
        sequences, queries = open_sequences(artifact), open_cold(artifact)
        summary = json.loads(artifact.file("summary.json").read_text())
        again = ingest(params, Path(folder) / "again")
        assert again.facts == artifact.facts, "the same inputs twice give the same digests"

    quarantined = sum(summary["quarantine"].get("interactions.csv", {}).values())
    steps = {step["step"]: step["interactions"] for step in summary["steps"]}
    asked = steps.pop("cold choices that can be asked", 0)
    in_order = list(steps.values())
    dropped = -int(np.diff(in_order[1:]).sum())  # by filters; cold choices leave at a step of their own
    assert in_order[0] == len(drawn)
    assert len(sequences.items) + dropped + quarantined == len(drawn)
    assert asked == len(queries)

    lengths = np.diff(sequences.offsets)
    for user in range(len(sequences)):
        history, training = sequences.history(user), sequences.training(user)
        assert len(training) == (lengths[user] - 2 if lengths[user] >= 3 else lengths[user])
        assert np.array_equal(history[: len(training)], training)
        assert (np.diff(sequences.timestamps[sequences.offsets[user] : sequences.offsets[user + 1]]) >= 0).all()
    trained = Counter(np.concatenate([sequences.training(user) for user in range(len(sequences))]).tolist())
    assert sequences.training_counts().tolist() == [trained[item] for item in range(sequences.num_items)]
    held_out = len(sequences.queries("validation")) + len(sequences.queries("test"))
    assert trained.total() + held_out == len(sequences.items), "a held-out interaction is in no training part"
    assert max(trained) < sequences.num_warm
    assert (queries.target >= sequences.num_warm).all()
    assert (queries.end <= lengths[queries.user]).all() and (queries.end > 0).all()


def test_the_place_of_the_raw_folder_leaves_no_trace(tmp_path) -> None:
    here = ingest(ingest_params(write_shop(tmp_path / "here" / "raw")), tmp_path / "here" / "catalog")
    there = ingest(ingest_params(write_shop(tmp_path / "there" / "raw")), tmp_path / "there" / "catalog")
    assert here.facts == there.facts


def test_a_param_without_effect_on_the_data_changes_no_byte(tmp_path) -> None:
    root = write_shop(tmp_path / "raw")
    loose = ingest(ingest_params(root, max_quarantine=0.9), tmp_path / "loose")
    assert ingest(ingest_params(root), tmp_path / "strict").facts == loose.facts
