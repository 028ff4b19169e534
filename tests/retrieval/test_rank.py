"""Full ranking: order by score then index, masking, and independence of the block size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, top_k_accuracy_score

from pipeline.errors import MolarError
from pipeline.retrieval import sieve
from pipeline.retrieval.metrics import ndcg_at, recall_at
from pipeline.retrieval.rank import (
    dot_scorer,
    pair_scores,
    scored_target_ranks,
    scored_top_k,
    target_ranks,
    top_k,
)


def _cases(seed, queries=40, items=30, dim=4):
    """Small integer vectors: ties everywhere."""
    rng = np.random.default_rng(seed)
    users_QD = rng.integers(-2, 3, (queries, dim)).astype(np.float32)
    items_ND = rng.integers(-2, 3, (items, dim)).astype(np.float32)
    seen = [rng.integers(0, items, rng.integers(0, 8)).astype(np.int32) for _ in range(queries)]
    return users_QD, items_ND, rng.integers(0, items, queries), seen, rng.random(items) < 0.8


def _naive_order(scores_N, seen, candidates):
    return [n for n in np.lexsort((np.arange(len(scores_N)), -scores_N)) if candidates[n] and n not in seen]


def test_equals_a_sort_by_score_then_index():
    users_QD, items_ND, targets_Q, seen, candidates = _cases(0)
    ranks_Q = target_ranks(users_QD, items_ND, targets_Q, seen, candidates, block=7)
    items_QK, scores_QK = top_k(users_QD, items_ND, 25, seen, candidates, block=7)
    for q, scores_N in enumerate(users_QD @ items_ND.T):
        order = _naive_order(scores_N, seen[q], candidates)
        assert ranks_Q[q] == (order.index(targets_Q[q]) if targets_Q[q] in order else len(items_ND))
        padded = (order + [-1] * 25)[:25]
        assert items_QK[q].tolist() == padded
        assert scores_QK[q].tolist() == [scores_N[n] if n >= 0 else -np.inf for n in padded]
    assert items_QK.dtype == np.int32 and scores_QK.dtype == np.float32 and ranks_Q.dtype == np.int64


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    items=st.integers(1, 900),
    dim=st.integers(1, 9),
    k=st.integers(1, 40),
    kind=st.sampled_from(["integers", "normal", "close", "huge", "tiny"]),
    masks=st.sampled_from(["", "seen", "candidates", "seen candidates", "nobody"]),
)
def test_equals_a_full_sort_whatever_ties_masks_and_tiles(seed, items, dim, k, kind, masks):
    """Narrow tiles and a small budget, so that one case crosses many of both; every kind of trouble with float32."""
    rng, queries = np.random.default_rng(seed), 11
    users_QD, items_ND = rng.normal(size=(queries, dim)), rng.normal(size=(items, dim))
    if kind == "integers":
        users_QD, items_ND = users_QD.round(), items_ND.round()
    elif kind == "close":  # differences that a float32 product cannot see
        items_ND = items_ND[:1] * (1 + 1e-7 * rng.integers(0, 4, (items, 1)))
    elif kind == "huge":  # products beyond float32
        users_QD = users_QD * 1e37
    elif kind == "tiny":  # and below its normal numbers
        users_QD, items_ND = users_QD * 1e-22, items_ND * 1e-20
    users_QD, items_ND = users_QD.astype(np.float32), items_ND.astype(np.float32)
    targets_Q = rng.integers(0, items, queries)
    seen = [rng.integers(0, items, rng.integers(0, 30)) for _ in range(queries)] if "seen" in masks else None
    candidates = rng.random(items) < 0.7 if "candidates" in masks else None
    if masks == "nobody":
        candidates = np.zeros(items, np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "TILE", 512)
        patch.setattr(sieve, "BUDGET", 1024)
        patch.setattr(sieve, "FEWEST", 3)
        ranks_Q = target_ranks(users_QD, items_ND, targets_Q, seen, candidates, block=4)
        items_QK, scores_QK = top_k(users_QD, items_ND, k, seen, candidates, block=4)
    with np.errstate(over="ignore"):
        scores_QN = (users_QD.astype(np.float64) @ items_ND.T.astype(np.float64)).astype(np.float32)
    for q, scores_N in enumerate(scores_QN):
        out = set() if seen is None else set(seen[q].tolist())
        order = _naive_order(scores_N, out, np.ones(items, bool) if candidates is None else candidates)
        assert ranks_Q[q] == (order.index(targets_Q[q]) if targets_Q[q] in order else items)
        assert items_QK[q].tolist() == (order + [-1] * k)[:k]
        assert scores_QK[q].tolist() == [scores_N[n] if n >= 0 else -np.inf for n in items_QK[q]]


def test_the_sieve_leaves_little_open_and_the_plain_way_agrees():
    rng = np.random.default_rng(8)
    users_QD, items_ND = (rng.normal(size=(n, 48)).astype(np.float32) for n in (60, 9000))
    targets_Q, seen = rng.integers(0, 9000, 60), list(rng.integers(0, 9000, (60, 20)))
    scorer = dot_scorer(users_QD, items_ND)
    plain_QK, plain_scores_QK = scored_top_k(scorer, 60, 9000, 30, seen)
    items_QK, scores_QK, open_Q = sieve.top_k(sieve.Sieve(users_QD, items_ND, seen, None, 512, "cpu"), 30)
    assert not open_Q.any() and (items_QK == plain_QK).all() and (scores_QK == plain_scores_QK).all()
    ranks_Q, open_Q = sieve.target_ranks(sieve.Sieve(users_QD, items_ND, None, None, 512, "cpu"), targets_Q)
    assert not open_Q.any() and (ranks_Q == scored_target_ranks(scorer, 9000, targets_Q)).all()


def test_a_float32_product_that_torch_may_round_further_is_not_trusted(monkeypatch):
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert sieve.Sieve(np.ones((3, 2)), np.ones((4, 2)), None, None, 8, "cpu").open_Q.all()


def test_torch_tells_scores_apart_as_numpy_does():
    scores_BW = torch.from_numpy(np.random.default_rng(2).integers(-3, 4, (5, 512)).astype(np.float32))
    low_B1 = torch.tensor([[0.0], [-9], [1], [torch.inf], [9]])
    high_B1 = torch.tensor([[1.0], [9], [1], [torch.inf], [9]])
    by_numpy = sieve._told_apart(scores_BW, low_B1, high_B1)
    by_torch = sieve._told_apart_by_torch(scores_BW, low_B1, high_B1)
    assert all((a == b).all() for a, b in zip(by_numpy, by_torch, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_moves_no_rank():
    rng = np.random.default_rng(9)
    users_QD, items_ND = (rng.normal(size=(n, 32)).astype(np.float32) for n in (200, 20_000))
    targets_Q, seen = rng.integers(0, 20_000, 200), list(rng.integers(0, 20_000, (200, 20)))
    there, here = (target_ranks(users_QD, items_ND, targets_Q, seen, device=d) for d in ("cuda", "cpu"))
    assert (there == here).all()
    there, here = (top_k(users_QD, items_ND, 50, seen, device=d)[0] for d in ("cuda", "cpu"))
    assert (there == here).all()


@pytest.mark.parametrize(
    ("scores", "target", "rank"),
    [
        ([5.0, 5.0, 5.0], 0, 0),
        ([5.0, 5.0, 5.0], 2, 2),
        ([1.0, 5.0, 5.0, 7.0], 2, 2),
        ([0.0, -0.0, 0.0], 1, 1),
        ([-np.inf, -np.inf, 1.0], 1, 2),
    ],
)
def test_ties_go_to_the_lower_index(scores, target, rank):
    scorer = lambda queries: np.array([scores])  # noqa: E731
    assert scored_target_ranks(scorer, len(scores), np.array([target])).tolist() == [rank]


def test_a_score_of_minus_infinity_stays_above_what_is_masked():
    scorer = lambda queries: np.array([[-np.inf, -np.inf, 1.0]])  # noqa: E731
    assert scored_target_ranks(scorer, 3, np.array([1]), seen=[np.array([0])]).tolist() == [1]


def test_a_target_in_the_masked_history_or_outside_the_candidates_is_a_miss():
    users_QD, items_ND = np.ones((2, 1), np.float32), np.array([[3.0], [2.0], [1.0]], np.float32)
    ranks_Q = target_ranks(users_QD, items_ND, np.array([0, 1]), seen=[np.array([0, 0]), np.array([0])])
    assert ranks_Q.tolist() == [3, 0]
    assert target_ranks(users_QD, items_ND, np.array([0, 1]), candidates=np.array([False, True, True])).tolist() == [
        3,
        0,
    ]


def test_equal_vectors_tie_wherever_they_stand():
    """A float32 product may score the same vector differently at the edge of a BLAS tile; ours may not."""
    rng = np.random.default_rng(3)
    users_QD = rng.normal(size=(65, 37)).astype(np.float32)
    items_ND = np.repeat(rng.normal(size=(1, 37)).astype(np.float32), 1001, axis=0)
    targets_Q = rng.integers(0, 1001, 65)
    assert (target_ranks(users_QD, items_ND, targets_Q) == targets_Q).all()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), block=st.integers(1, 64))
def test_the_block_size_moves_no_rank(seed, block):
    rng = np.random.default_rng(seed)
    users_QD, items_ND = rng.normal(size=(50, 9)).astype(np.float32), rng.normal(size=(40, 9)).astype(np.float32)
    items_ND[20:] = items_ND[:20]
    targets_Q = rng.integers(0, 40, 50)
    whole = target_ranks(users_QD, items_ND, targets_Q, block=50)
    assert (target_ranks(users_QD, items_ND, targets_Q, block=block) == whole).all()
    assert (top_k(users_QD, items_ND, 5, block=block)[0] == top_k(users_QD, items_ND, 5, block=50)[0]).all()


def test_a_diverged_model_is_refused():
    bad = np.array([[np.nan]], np.float32)
    with pytest.raises(MolarError, match="diverged"):
        target_ranks(bad, np.ones((3, 1), np.float32), np.array([0]))
    with pytest.raises(MolarError, match="diverged") as error:
        top_k(np.ones((3, 1), np.float32), bad, 2)
    assert "\n" not in str(error.value)
    with pytest.raises(MolarError, match="diverged"):
        scored_target_ranks(lambda queries: np.array([[1.0, np.nan]]), 2, np.array([0]))


def test_pair_scores_are_the_ranking_s_own():
    rng = np.random.default_rng(5)
    users_QD, items_ND = rng.normal(size=(20, 16)).astype(np.float32), rng.normal(size=(50, 16)).astype(np.float32)
    items_QK, scores_QK = top_k(users_QD, items_ND, 60)
    np.testing.assert_allclose(pair_scores(users_QD, items_ND, items_QK), scores_QK, rtol=1e-7)


def test_metrics_equal_a_reference_implementation():
    """scikit-learn, given our order as descending scores, so that its own tie rule does not matter."""
    rng = np.random.default_rng(11)
    users_QD, items_ND = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(300, 8)).astype(np.float32)
    targets_Q = rng.integers(0, 300, 200)
    ranks_Q = target_ranks(users_QD, items_ND, targets_Q)
    order_QN, _ = top_k(users_QD, items_ND, 300)
    scores_QN = 300.0 - np.argsort(order_QN, axis=1)  # place of each item
    judged_QN = np.arange(300) == targets_Q[:, None]
    for k in (10, 20, 50):
        assert abs(ndcg_at(ranks_Q, k).mean() - ndcg_score(judged_QN, scores_QN, k=k)) < 1e-9
        recall = top_k_accuracy_score(targets_Q, scores_QN, k=k, labels=np.arange(300))
        assert abs(recall_at(ranks_Q, k).mean() - recall) < 1e-9
