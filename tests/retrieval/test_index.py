"""FAISS indexes: flat equals exact, also under ties and masking; approximate kinds stay honest; bytes repeat."""

import faiss
import numpy as np
import pytest

from pipeline.errors import MolarError
from pipeline.retrieval import index
from pipeline.retrieval.rank import target_ranks, top_k

SETTINGS = {"ivf_lists": 8, "ivf_probes": 3, "hnsw_neighbours": 8, "hnsw_ef": 32}


def _world(seed=0, queries=90, items=400, dim=24):
    rng = np.random.default_rng(seed)
    users_QD = rng.normal(size=(queries, dim)).astype(np.float32)
    items_ND = rng.normal(size=(items, dim)).astype(np.float32)
    items_ND[100:180] = items_ND[3]  # eighty equal items: FAISS orders them as it likes
    items_ND[200:240] = items_ND[4] * (1 + 1e-7 * np.arange(40, dtype=np.float32)[:, None])  # and forty nearly equal
    users_QD[:20] = items_ND[3]
    users_QD[20:40] = items_ND[4]
    seen = [rng.integers(0, items, rng.integers(0, 60)).astype(np.int32) for _ in range(queries)]
    return users_QD, items_ND, rng.integers(0, items, queries), seen, rng.random(items) < 0.7


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("part", [False, True])
def test_flat_equals_exact(masked, part):
    users_QD, items_ND, targets_Q, seen, some_N = _world()
    searcher = index.Searcher(index.build(items_ND, np.ones(400, bool), "flat", **SETTINGS), items_ND)
    seen, candidates = seen if masked else None, some_N if part else None
    items_QK, scores_QK = searcher.search(users_QD, 50, seen, candidates)
    exact_items_QK, exact_scores_QK = top_k(users_QD, items_ND, 50, seen, candidates)
    assert (items_QK == exact_items_QK).all() and (scores_QK == exact_scores_QK).all()
    exact_Q = target_ranks(users_QD, items_ND, targets_Q, seen, candidates)
    found_Q = searcher.target_ranks(users_QD, targets_Q, 50, seen, candidates)
    assert (found_Q == np.where(exact_Q < 50, exact_Q, 400)).all()


def test_among_few_candidates_flat_ranks_without_the_index(monkeypatch):
    users_QD, items_ND, _, seen, _ = _world()
    few_N = np.arange(400) % 40 == 0
    searcher = index.Searcher(index.build(items_ND, np.arange(400) != 80, "flat", **SETTINGS), items_ND)
    monkeypatch.setattr(searcher, "_fetch", None)
    items_QK, scores_QK = searcher.search(users_QD, 5, seen, few_N)
    few_N[80] = False  # is not indexed
    exact_items_QK, exact_scores_QK = top_k(users_QD, items_ND, 5, seen, few_N)
    assert (items_QK == exact_items_QK).all() and (scores_QK == exact_scores_QK).all()


def test_more_asked_than_there_is():
    users_QD, items_ND, *_ = _world(items=300)
    searcher = index.Searcher(index.build(items_ND, np.arange(300) < 5, "flat", **SETTINGS), items_ND)
    items_QK, scores_QK = searcher.search(users_QD, 8, seen=[np.array([0, 1])] * len(users_QD))
    assert (np.sort(items_QK, axis=1) == [-1, -1, -1, -1, -1, 2, 3, 4]).all()
    assert (scores_QK[:, 3:] == -np.inf).all()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_approximate_kinds_lose_little_and_invent_nothing(kind):
    users_QD, items_ND, targets_Q, seen, _ = _world()
    searcher = index.Searcher(index.build(items_ND, np.ones(400, bool), kind, **SETTINGS), items_ND)
    items_QK, scores_QK = searcher.search(users_QD, 10, seen)
    exact_QK, _ = top_k(users_QD, items_ND, 10, seen)
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(items_QK, exact_QK, strict=True)])
    assert shared > 0.4
    assert all(not set(found) & set(history) for found, history in zip(items_QK, seen, strict=True))
    assert (np.diff(scores_QK[items_QK[:, -1] >= 0], axis=1) <= 0).all()
    exact_Q = target_ranks(users_QD, items_ND, targets_Q, seen)
    found_Q = searcher.target_ranks(users_QD, targets_Q, 10, seen)
    hit_Q = found_Q < 10  # rivals that the index missed can only lift a target
    assert hit_Q.any() and (found_Q[hit_Q] <= exact_Q[hit_Q]).all()


def test_the_graph_of_hnsw_is_of_distances_that_order_as_inner_products_do():
    users_QD, items_ND, *_ = _world()
    items_ND *= np.random.default_rng(1).lognormal(size=(400, 1)).astype(np.float32)  # of very different lengths
    built = index.build(items_ND, np.arange(400) < 350, "hnsw", **SETTINGS)
    graph = faiss.downcast_index(built.index)  # which `built` owns
    held_ME = graph.storage.reconstruct_n(0, 350)
    lengths_M = np.linalg.norm(held_ME, axis=1)
    assert graph.metric_type == faiss.METRIC_L2 and (held_ME[:, :-1] == items_ND[:350]).all()
    assert np.allclose(lengths_M, np.linalg.norm(items_ND[:350], axis=1).max(), rtol=1e-6)
    asked_QE = np.pad(users_QD, ((0, 0), (0, 1)))
    distances_QM = np.square(asked_QE[:, None].astype(np.float64) - held_ME).sum(axis=2)
    constant_Q1 = np.square(users_QD.astype(np.float64)).sum(axis=1, keepdims=True) + np.square(lengths_M).max()
    assert np.allclose(constant_Q1 - distances_QM, 2 * users_QD @ items_ND[:350].T, atol=1e-4 * lengths_M.max())


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_same_bytes_twice_and_settings_travel(kind, tmp_path):
    _, items_ND, *_ = _world()
    for name in ("a", "b"):
        index.write(index.build(items_ND, np.arange(400) < 350, kind, **SETTINGS), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    back = index.read(tmp_path / "a")
    assert back.ntotal == 350
    if kind == "ivf":
        assert back.nprobe == 3


def test_messages():
    items_ND = np.ones((5, 3), np.float32)
    with pytest.raises(MolarError) as error:
        index.build(items_ND, np.ones(5, bool), "ivf", **SETTINGS)
    assert str(error.value) == (
        "build_index.ivf_lists = 8 is more than the 5 items there are: lower it, or set build_index.kind to flat"
    )
    with pytest.raises(MolarError) as error:
        index.build(items_ND, np.zeros(5, bool), "flat", **SETTINGS)
    assert str(error.value) == "build_index: no item has a vector to search: train_dueg left none rankable"
    with pytest.raises(MolarError) as error:
        index.Searcher(index.build(items_ND, np.ones(5, bool), "flat", **SETTINGS), items_ND[:, :2])
    assert str(error.value) == (
        "the index holds vectors of 3 numbers and the models now give 2: run `dvc repro build_index`"
    )


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:1", 1), ("cpu", None)])
def test_an_index_lies_on_the_gpu_that_is_named(monkeypatch, device, number):
    """As a GPU build of FAISS would be asked, which is not at hand here."""
    placed = []
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _, number, index: placed.append(number), raising=False)
    _, items_ND, *_ = _world()
    flat = index.build(items_ND, np.ones(400, bool), "flat", **SETTINGS)
    index.Searcher(flat, items_ND, device)
    assert placed == ([] if number is None else [number])
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    index.Searcher(flat, items_ND, device)
    assert len(placed) == (number is not None), "a build whose driver finds no GPU searches on the CPU"


def test_no_block_of_queries_is_so_small_that_it_is_slow(monkeypatch):
    users_QD, items_ND, *_ = _world(queries=250)
    searcher = index.Searcher(index.build(items_ND, np.ones(400, bool), "flat", **SETTINGS), items_ND)
    whole = searcher.search(users_QD, 10)
    sizes, fetch = [], index.Searcher._fetch

    def counted(self, users_QD, open_Q, *rest):
        sizes.append(len(open_Q))
        return fetch(self, users_QD, open_Q, *rest)

    monkeypatch.setattr(index.Searcher, "_fetch", counted)
    monkeypatch.setattr(index, "BLOCK", 100)
    monkeypatch.setattr(index, "PRODUCTS_FROM", 0)
    np.testing.assert_equal(searcher.search(users_QD, 10), whole)
    assert sizes[0] == 125, "two blocks of 125, and not two of 100 and one of 50"
    monkeypatch.setattr(index, "MAX_FETCHED", 1)
    sizes.clear()
    np.testing.assert_equal(searcher.search(users_QD, 10), whole)
    assert set(sizes) == {1}, "what may come back at once is a bound also where a single list is longer"
