"""One protocol for all systems: candidates, masking, the score sum, the index, the oracle."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import MolarError
from pipeline.recommender.evaluation import ScoreSum, Table, evaluate, lists, score_deviation, sum_table
from pipeline.report import results
from pipeline.retrieval import index
from pipeline.retrieval.rank import top_k
from pipeline.retrieval.ranked import VARIANTS
from tests.report.shelf import ITEMS, USERS, WARM, PlainRecommender, cold_queries, sequences

WARM_N = np.arange(ITEMS) < WARM
SETTINGS = {"ivf_lists": 4, "ivf_probes": 1, "hnsw_neighbours": 8, "hnsw_ef": 16}


@pytest.fixture(scope="module")
def shop():
    return sequences(), PlainRecommender(WARM_N, 1), PlainRecommender(WARM_N | True, 2)


def _evaluate(shop, cold=None, **changes):
    of, teacher, dueg = shop
    built = index.build(dueg.item_vectors(), dueg.rankable, "flat", **SETTINGS)
    searcher = index.Searcher(built, dueg.item_vectors())
    settings = {"cutoffs": [10, 20], "sum_weights": [0.0, 0.5, 1.0], "mask_seen": False} | changes
    return evaluate(of, cold_queries(of) if cold is None else cold, teacher, dueg, searcher, **settings)


def test_systems_and_candidates(shop):
    def oracle(queries):  # knows every target
        return lambda block: np.eye(ITEMS)[queries.target[block]]

    found = _evaluate(shop, oracles={"oracle": oracle})
    assert found.test.num_candidates == WARM and found.cold_among_all.num_candidates == ITEMS
    assert found.cold_among_cold.num_candidates == ITEMS - WARM
    for variant in VARIANTS:
        assert set(found.test.ranks[variant]) == {"popularity", "teacher", "dueg", "dueg_index", "sum", "oracle"}
        assert set(found.cold_among_all.ranks[variant]) == {"dueg", "dueg_index", "sum"}  # IDs know no cold item
        assert set(found.cold_among_cold.ranks[variant]) == {"dueg", "dueg_index", "sum", "oracle"}
    assert (found.test.ranks["unmasked"]["oracle"] == 0).all()
    assert found.cold_among_cold.ranks["masked"]["dueg"].max() < ITEMS - WARM


def test_exposure_is_of_ten_candidates_a_query_and_the_flat_index_shows_the_same(shop):
    found = _evaluate(shop)
    for ranked, last in ((found.test, WARM), (found.cold_among_all, ITEMS)):
        for variant in VARIANTS:
            shown = ranked.exposure[variant]
            assert shown.keys() == ranked.ranks[variant].keys()
            assert all(of.sum() == 10 * len(ranked.targets) and not of[last:].any() for of in shown.values())
            assert (shown["dueg"] == shown["dueg_index"]).all()
    assert np.count_nonzero(found.test.exposure["unmasked"]["popularity"]) == 10  # the same ten for everybody


def test_masking_makes_a_repeated_target_a_miss_and_lifts_the_rest(shop):
    of, *_ = shop
    found, queries = _evaluate(shop).test, of.queries("test")
    repeated_Q = np.array([t in h for t, h in zip(queries.target, queries.histories(of), strict=True)])
    for name, masked_Q in found.ranks["masked"].items():
        assert (masked_Q[repeated_Q] == ITEMS).all()
        if name != "dueg_index":  # which says no more than that a target is past its depth
            assert (masked_Q[~repeated_Q] <= found.ranks["unmasked"][name][~repeated_Q]).all()


def test_every_metric_is_the_same_through_a_flat_index(shop):
    found = _evaluate(shop)
    for ranked in (found.test, found.cold_among_all, found.cold_among_cold):
        for variant in VARIANTS:
            exact_Q = ranked.ranks[variant]["dueg"]
            assert (ranked.ranks[variant]["dueg_index"] == np.where(exact_Q < 20, exact_Q, ITEMS)).all()


def test_the_sum_at_its_ends_is_either_system(shop):
    only_content, only_ids = _evaluate(shop, sum_weights=[0.0]), _evaluate(shop, sum_weights=[1.0])
    assert (only_content.test.ranks["masked"]["sum"] == only_content.test.ranks["masked"]["dueg"]).all()
    assert (only_ids.test.ranks["masked"]["sum"] == only_ids.test.ranks["masked"]["teacher"]).all()
    chosen = _evaluate(shop)
    assert chosen.validation_by_weight[chosen.id_weight] == max(chosen.validation_by_weight.values())


def test_the_sum_gives_an_item_without_id_the_user_s_mean():
    rng = np.random.default_rng(0)
    teacher = Table(rng.normal(size=(6, 3)).astype(np.float32), np.arange(6) < 4)
    dueg = Table(rng.normal(size=(6, 5)).astype(np.float32), np.ones(6, bool))
    teacher_QD, dueg_QE = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    scores_QN = ScoreSum(0.3, 2.0).users(teacher_QD, dueg_QE) @ sum_table(teacher, dueg).items_ND.T
    ids_QN = teacher_QD @ teacher.items_ND.T
    ids_QN[:, 4:] = ids_QN[:, :4].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores_QN, 0.3 * ids_QN + 2.0 * dueg_QE @ dueg.items_ND.T, rtol=1e-4, atol=1e-5)


def test_score_deviation_equals_the_deviation_of_all_scores():
    rng = np.random.default_rng(0)
    users_QD, items_ND = rng.normal(1, 2, (70, 6)).astype(np.float32), rng.normal(3, 1, (50, 6)).astype(np.float32)
    scores_QN = users_QD.astype(np.float64) @ items_ND.T
    around_mean_QN = scores_QN - scores_QN.mean(axis=1, keepdims=True)
    assert score_deviation(users_QD, items_ND) == pytest.approx(np.sqrt((around_mean_QN**2).mean()))


def test_lists_are_of_every_user_s_whole_history(shop):
    of, _, dueg = shop

    def search(histories, users):
        assert [of.history(user).tolist() for user in users] == [history.tolist() for history in histories]
        return top_k(dueg.user_vectors(histories, users), dueg.item_vectors(), 5, histories)

    blocks = list(lists(of, search))
    assert [user for users, _, _ in blocks for user in users] == of.user_ids
    assert blocks[0][1].shape == (USERS, 5)
    assert not set(blocks[0][1][7]) & set(of.history(7))


def test_several_queries_a_user_and_users_without_training_items(shop, tmp_path):
    of, teacher, dueg = shop
    half_U = (np.diff(of.offsets) // 2).astype(np.int32)
    half_U[:9] = 0
    later = type(of)(**vars(of) | {"train_end": half_U, "valid_end": np.where(half_U, half_U + 1, 0).astype(np.int32)})
    found = _evaluate((later, teacher, dueg))
    assert found.test.history_lengths.min() == 1 and np.bincount(found.test.users).max() > 5
    assert set(range(9)) <= set(found.test.users.tolist())
    report = results.report(found, "masked", [10, 20], 100)
    buckets = report["test"]["masked"]["buckets"]["history"]["dueg"]
    assert sum(bucket["queries"] for bucket in buckets.values()) == len(later.queries("test"))
    results.write_report(tmp_path, found, report, later.user_ids)
    assert pq.read_table(tmp_path / "per_user.parquet").num_rows == len(later.queries("test"))


def test_no_test_query_is_said_in_one_line(shop):
    of, teacher, dueg = shop
    ends_U = np.diff(of.offsets).astype(np.int32)
    nothing = type(of)(**vars(of) | {"train_end": ends_U, "valid_end": ends_U})
    with pytest.raises(MolarError) as error:
        _evaluate((nothing, teacher, dueg))
    assert str(error.value) == (
        "no user has three interactions, so there is no test query: see data/catalog/summary.json"
    )
