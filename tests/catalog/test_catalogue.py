"""The readers: what a sequence's parts are, and that a picture belongs to its item across row groups."""

import numpy as np
import pytest

from pipeline.catalog import packing
from pipeline.catalog.catalogue import Sequences, open_cold, open_items, open_sequences
from pipeline.errors import MolarError
from tests.catalog.shop import INTERACTIONS, ingest, ingest_params, png, write_shop


def three_users() -> Sequences:
    """Lengths 4, 2 and 3; item 4 is cold."""
    return Sequences(
        user_ids=["p", "q", "r"],
        items=np.array([0, 1, 2, 3, 1, 0, 3, 2, 1], dtype=np.int32),
        timestamps=np.arange(9),
        offsets=np.array([0, 4, 6, 9]),
        train_end=np.array([2, 2, 1], dtype=np.int32),
        valid_end=np.array([3, 2, 2], dtype=np.int32),
        num_items=5,
        num_warm=4,
    )


def test_parts_of_a_sequence() -> None:
    sequences = three_users()
    assert [sequences.training(u).tolist() for u in range(3)] == [[0, 1], [1, 0], [3]]
    assert sequences.history(0).tolist() == [0, 1, 2, 3]
    assert sequences.history(1, end=9).tolist() == [1, 0], "an end beyond the user's last item is the whole of it"
    assert sequences.training_counts().tolist() == [2, 2, 0, 1, 0]
    assert np.shares_memory(sequences.training(0), sequences.items)


def test_queries_ask_for_the_next_item_after_the_history() -> None:
    sequences = three_users()
    validation, test = sequences.queries("validation"), sequences.queries("test")
    assert [*zip(validation.user, validation.end, validation.target, strict=True)] == [(0, 2, 2), (2, 1, 2)]
    assert [*zip(test.user, test.end, test.target, strict=True)] == [(0, 3, 3), (2, 2, 1)]
    assert [h.tolist() for h in test.histories(sequences)] == [[0, 1, 2], [3, 2]], "validation item included"
    assert [h.tolist() for h in test.histories(sequences, max_history=1)] == [[2], [2]]


def test_queries_of_parts_longer_than_one() -> None:
    sequences = three_users()
    object.__setattr__(sequences, "train_end", np.array([1, 2, 3], dtype=np.int32))
    object.__setattr__(sequences, "valid_end", np.array([3, 2, 3], dtype=np.int32))
    queries = sequences.queries("validation")
    assert [*zip(queries.user, queries.end, queries.target, strict=True)] == [(0, 1, 1), (0, 2, 2)]


def test_a_first_item_is_never_asked() -> None:
    sequences = three_users()
    object.__setattr__(sequences, "train_end", np.array([0, 0, 1], dtype=np.int32))
    object.__setattr__(sequences, "valid_end", np.array([2, 0, 2], dtype=np.int32))
    asked = [sequences.queries(part) for part in ("validation", "test")]
    assert [q.end.tolist() for q in asked] == [[1, 1], [2, 3, 1, 2]]
    assert [q.user.tolist() for q in asked] == [[0, 2], [0, 0, 1, 2]]
    assert [q.target.tolist() for q in asked] == [[1, 2], [2, 3, 0, 1]]
    assert sequences.training_counts().sum() == 1 and len(sequences.training(0)) == 0


def test_pictures_across_row_groups_and_parts(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(packing, "ROW_GROUP", 2)
    monkeypatch.setattr(packing, "PART", 4)
    sizes = {f"i{n}": 8 + n for n in range(11)}
    without = {"i3", "i4", "i5"}
    items = "id,title,text,image\n" + "".join(
        f"{name},{name},,{'' if name in without else name + '.png'}\n" for name in sizes
    )
    events = "user,item,timestamp\n" + "".join(f"u,{name},{n}\n" for n, name in enumerate(sizes))
    root = write_shop(tmp_path / "raw", events, items)
    for name, size in sizes.items():
        (root / "images" / f"{name}.png").write_bytes(png(size, 8))
    artifact = ingest(ingest_params(root), tmp_path / "catalog")
    catalogue = open_items(artifact)
    assert [n for n in artifact.names if n.startswith("items/")] == [f"items/part-0000{k}.parquet" for k in range(3)]
    assert catalogue.has_image.tolist() == [name not in without for name in catalogue.item_ids]
    for idx in (10, 0, 3, 9, 1, 10):
        picture = catalogue.image(idx)
        name = catalogue.item_ids[idx]
        assert (picture is None) == (name in without)
        if picture is not None:
            assert (picture.mode, picture.size) == ("RGB", (sizes[name], 8))


def test_words_of_items(tmp_path) -> None:
    catalogue = open_items(ingest(ingest_params(write_shop(tmp_path / "raw")), tmp_path / "catalog"))
    assert catalogue.item_ids == ["a", "b", "c"], "by first appearance in time; the unseen d is gone"
    assert catalogue.titles == ["Apple", "Boot", "Cup"]
    assert catalogue.texts == ["A fruit", None, "A vessel"], "an empty cell is None"
    assert catalogue.captions == catalogue.summaries == [None] * 3
    assert catalogue.attributes == [{"brand": "Orchard"}, {}, {"brand": "Potter"}]
    assert len(catalogue) == 3


def test_no_cold_items_is_no_cold_query(tmp_path) -> None:
    artifact = ingest(ingest_params(write_shop(tmp_path / "raw")), tmp_path / "catalog")
    assert len(open_cold(artifact)) == 0
    assert open_sequences(artifact).user_ids == ["ann", "bob"]


def test_a_corrupted_part_names_file_and_stage(tmp_path) -> None:
    artifact = ingest(ingest_params(write_shop(tmp_path / "raw", INTERACTIONS)), tmp_path / "catalog")
    part = tmp_path / "catalog" / "items" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(MolarError) as error:
        open_items(artifact)
    assert str(error.value) == (
        f"{part} is corrupted (it differs from its manifest): run `dvc repro --force --single-item ingest`"
    )
