"""Full ranking: order by score then index, masking, and independence of the block size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.retrieval.metrics import ndcg_at, recall_at
from pipeline.retrieval.rank import pair_scores, scored_target_ranks, target_ranks, top_k


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
    with pytest.raises(ValueError, match="diverged"):
        target_ranks(bad, np.ones((3, 1), np.float32), np.array([0]))
    with pytest.raises(ValueError, match="diverged"):
        scored_target_ranks(lambda queries: np.array([[1.0, np.nan]]), 2, np.array([0]))


def test_pair_scores_are_the_ranking_s_own():
    rng = np.random.default_rng(5)
    users_QD, items_ND = rng.normal(size=(20, 16)).astype(np.float32), rng.normal(size=(50, 16)).astype(np.float32)
    items_QK, scores_QK = top_k(users_QD, items_ND, 60)
    np.testing.assert_allclose(pair_scores(users_QD, items_ND, items_QK), scores_QK, rtol=1e-7)


def test_metrics_equal_a_reference_implementation():
    """ranx, given our order as descending scores, so that its own tie rule does not matter."""
    import ranx

    rng = np.random.default_rng(11)
    users_QD, items_ND = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(300, 8)).astype(np.float32)
    targets_Q = rng.integers(0, 300, 200)
    ranks_Q = target_ranks(users_QD, items_ND, targets_Q)
    order_QN, _ = top_k(users_QD, items_ND, 300)
    judged = ranx.Qrels({str(q): {str(t): 1} for q, t in enumerate(targets_Q)})
    run = ranx.Run({str(q): {str(n): 300.0 - place for place, n in enumerate(o)} for q, o in enumerate(order_QN)})
    for k in (10, 20, 50):
        theirs = ranx.evaluate(judged, run, [f"ndcg@{k}", f"recall@{k}"])
        assert abs(ndcg_at(ranks_Q, k).mean() - theirs[f"ndcg@{k}"]) < 1e-9
        assert abs(recall_at(ranks_Q, k).mean() - theirs[f"recall@{k}"]) < 1e-9
