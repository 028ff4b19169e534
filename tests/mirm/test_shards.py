"""Shards are named by content and verified; conditioning is fitted on the rows it is told, and on no other."""

import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.mirm.conditioning import fit
from pipeline.mirm.shards import conditioned, read_conditioning, read_embeddings, write_conditioning, write_embeddings

VECTORS = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def written(directory, dtype="float32", mean=None, matrix=None):
    with artifacts.write(directory) as out:
        write_embeddings(out, VECTORS, dtype, shard_items=8)
        write_conditioning(out, np.zeros(6) if mean is None else mean, np.eye(6) if matrix is None else matrix)
    return artifacts.read(directory, "embed_items")


@pytest.mark.parametrize(("dtype", "exact"), [("float32", 0.0), ("float16", 2e-3)])
def test_round_trip(tmp_path, dtype, exact):
    artifact = written(tmp_path / "e", dtype)
    assert (artifact.facts["items"], artifact.facts["dim"]) == (20, 6)
    np.testing.assert_allclose(read_embeddings(artifact), VECTORS, atol=exact)
    assert read_embeddings(artifact).dtype == np.float32


def test_shards_carry_their_digest_and_plain_columns(tmp_path):
    artifact = written(tmp_path / "e")
    shards = [name for name in artifact.names if name.startswith("shard-")]
    assert [name[:12] for name in shards] == ["shard-00000-", "shard-00001-", "shard-00002-"]
    for name in shards:
        assert name == f"{name[:12]}{artifacts.sha256(artifact.file(name))[:12]}.parquet"
    table = pq.read_table(artifact.file(shards[1]))
    assert str(table.schema.field("item_idx").type) == "int32"
    assert str(table.schema.field("embedding").type).startswith("fixed_size_list<")
    assert table["item_idx"].to_pylist() == list(range(8, 16))


@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "float32"), (70_000.0, "float16")])
def test_what_a_shard_cannot_hold_names_the_item(tmp_path, value, dtype):
    broken = VECTORS.copy()
    broken[13, 2] = value
    with pytest.raises(MolarError, match=f"item 13 holds a NaN, an infinity or a number beyond {dtype}"):
        write_embeddings(tmp_path, broken, dtype, shard_items=8)


def test_the_same_vectors_give_the_same_files(tmp_path):
    assert written(tmp_path / "a").facts == written(tmp_path / "b").facts


def test_a_corrupted_shard_names_file_and_stage(tmp_path):
    artifact = written(tmp_path / "e")
    path = artifact.directory / artifact.names[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(MolarError) as error:
        read_embeddings(artifacts.read(tmp_path / "e", "embed_items"))
    assert str(error.value) == (
        f"{path} is corrupted (it differs from its manifest): run `dvc repro --force --single-item embed_items`"
    )


def test_conditioned_applies_the_map(tmp_path):
    mean, matrix = VECTORS[:10].mean(0), np.random.default_rng(1).normal(size=(6, 3))
    artifact = written(tmp_path / "e", mean=mean, matrix=matrix)
    np.testing.assert_allclose(conditioned(artifact), (VECTORS - mean) @ matrix, atol=1e-5)
    assert [tensor.shape for tensor in read_conditioning(artifact)] == [(6,), (6, 3)]


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whitening_whitens_the_rows_it_was_fitted_on(kind):
    rows = np.arange(20)
    mean, matrix = fit(VECTORS, rows, kind, floor=0.0)
    white = (VECTORS.astype(np.float64) - mean) @ matrix
    np.testing.assert_allclose(white.T @ white / 20, np.eye(6), atol=1e-8)


def test_weak_axes_are_not_blown_up():
    stretched = VECTORS * np.array([10, 1, 1, 1, 1, 0.01], np.float32)
    mean, matrix = fit(stretched, np.arange(20), "pca", floor=0.01)
    deviation = ((stretched - mean) @ matrix).std(axis=0)
    assert deviation[0] == pytest.approx(1) and deviation[-1] < 0.1


def test_rows_that_are_not_training_items_do_not_count():
    rows = np.arange(12)
    changed = VECTORS.copy()
    changed[12:] += 100
    for kind in ("centre", "zca", "pca"):
        for ours, theirs in zip(fit(VECTORS, rows, kind, 0.03), fit(changed, rows, kind, 0.03), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_none_and_centre_leave_directions_alone():
    mean, matrix = fit(VECTORS, np.arange(20), "none", 0.03)
    assert not mean.any() and (matrix == np.eye(6)).all()
    mean, matrix = fit(VECTORS, np.arange(20), "centre", 0.03)
    np.testing.assert_allclose(mean, VECTORS.mean(0), atol=1e-6)
    assert (matrix == np.eye(6)).all()


def test_whitening_holds_one_copy_in_doubles_and_leaves_the_embeddings_alone():
    vectors, rows = np.random.default_rng(2).normal(size=(20_000, 8)).astype(np.float32), np.arange(20_000)
    before = vectors.copy()
    tracemalloc.start()
    fit(vectors, rows, "pca", 0.03)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.7 * 8 * vectors.size, "the chosen rows as they are, and once in doubles"
    np.testing.assert_array_equal(vectors, before)
    doubles = vectors.astype(np.float64)  # of which fit could mistake none for its own
    fit(doubles, rows, "pca", 0.03)
    np.testing.assert_array_equal(doubles, before)


def test_equal_embeddings_cannot_be_whitened():
    with pytest.raises(MolarError) as error:
        fit(np.ones((20, 6), np.float32), np.arange(20), "pca", 0.03)
    assert str(error.value) == (
        "embed_items.conditioning.kind = 'pca': the embeddings of all 20 training items are equal: does the catalogue "
        "hold what embed_items.encoder and embed_items.modality ask for?"
    )
