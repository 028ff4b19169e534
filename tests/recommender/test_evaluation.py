"""One protocol for all systems: candidates, masking, the score sum, the index, the oracle."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import MolarError
from pipeline.recommender.evaluation import evaluate, lists
from pipeline.recommender.score_sum import ScoreSum, Summed, choose
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


def _evaluate(shop, serves="dueg", sum_weights=(0.0, 0.5, 1.0), mix=None, **changes):
    of, teacher, dueg = shop
    mix = choose(of, teacher, dueg, sum_weights, mask_seen=False) if mix is None else mix
    served = Summed(teacher, dueg, mix) if serves == "sum" else dueg
    built = index.build(served.item_vectors(), served.rankable, "flat", **SETTINGS)
    searcher = index.Searcher(built, served.item_vectors())
    settings = {"cutoffs": [10, 20]} | changes
    return evaluate(of, cold_queries(of), teacher, dueg, mix, searcher, serves, **settings)


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


@pytest.mark.parametrize(("serves", "other"), [("dueg", "sum"), ("sum", "dueg")])
def test_every_metric_is_the_same_through_a_flat_index_of_what_is_served(shop, serves, other):
    found = _evaluate(shop, serves)
    for ranked in (found.test, found.cold_among_all, found.cold_among_cold):
        for variant in VARIANTS:
            exact_Q = ranked.ranks[variant][serves]
            assert (ranked.ranks[variant][f"{serves}_index"] == np.where(exact_Q < 20, exact_Q, ITEMS)).all()
            assert (ranked.exposure[variant][serves] == ranked.exposure[variant][f"{serves}_index"]).all()
            assert f"{other}_index" not in ranked.ranks[variant]


def test_what_is_served_moves_no_other_row_and_no_difference(shop):
    reports = {serves: results.report(_evaluate(shop, serves), "masked", [10, 20], 100) for serves in ("dueg", "sum")}
    for part in ("test", "cold_among_all", "cold_among_cold"):
        for variant in VARIANTS:
            one, two = (reports[serves][part][variant] for serves in ("dueg", "sum"))
            assert two["systems"].pop("sum_index") == two["systems"]["sum"]
            one["systems"].pop("dueg_index")
            assert one["systems"] == two["systems"] and one["differences"] == two["differences"]


def test_the_sum_at_its_ends_is_either_system(shop):
    only_content, only_ids = _evaluate(shop, sum_weights=[0.0]), _evaluate(shop, sum_weights=[1.0])
    assert (only_content.test.ranks["masked"]["sum"] == only_content.test.ranks["masked"]["dueg"]).all()
    assert (only_ids.test.ranks["masked"]["sum"] == only_ids.test.ranks["masked"]["teacher"]).all()
    chosen = _evaluate(shop)
    assert chosen.validation_by_weight[chosen.id_weight] == max(chosen.validation_by_weight.values())


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


def test_a_cutoff_beyond_the_last_item_is_refused(shop):
    """A miss ranks behind all items, which such a cutoff would reach."""
    with pytest.raises(MolarError, match=r"evaluate.cutoffs asks for the best 900 and there are \d+ items: lower it"):
        _evaluate(shop, cutoffs=[10, 900])


def test_no_test_query_is_said_in_one_line(shop):
    of, teacher, dueg = shop
    ends_U = np.diff(of.offsets).astype(np.int32)
    nothing = type(of)(**vars(of) | {"train_end": ends_U, "valid_end": ends_U})
    with pytest.raises(MolarError) as error:
        _evaluate((nothing, teacher, dueg), mix=ScoreSum(0.5, 1.0, 1.0))
    assert str(error.value) == (
        "no user has three interactions, so there is no test query: see data/catalog/summary.json"
    )
