"""The score sum: its weight, its vectors, and that an index over them finds what the scores themselves say."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.recommender.score_sum import ScoreSum, Summed, Table, choose, read, score_deviation, table_of, write
from pipeline.retrieval import index
from pipeline.retrieval.rank import target_ranks, top_k
from tests.report.shelf import ITEMS, WARM, PlainRecommender, sequences

WARM_N = np.arange(ITEMS) < WARM
FLAT = {"kind": "flat", "ivf_lists": 4, "ivf_probes": 1, "hnsw_neighbours": 8, "hnsw_ef": 16}


@pytest.fixture(scope="module")
def models():
    return PlainRecommender(WARM_N, 1), PlainRecommender(WARM_N | True, 2)


def searcher_of(served):
    items_ND = served.item_vectors()
    return index.Searcher(index.build(items_ND, served.rankable, **FLAT), items_ND)


class Whole:
    """Vectors of small whole numbers, whose sums and products float32 has exactly; users are given by number."""

    def __init__(self, rng, known, items, users, width):
        self.num_items, self.rankable = items, np.arange(items) < known
        self.items_ND = rng.integers(-2, 3, (items, width)).astype(np.float32)
        self.users_UD = rng.integers(-3, 4, (users, width)).astype(np.float32)

    def item_vectors(self):
        return self.items_ND

    def user_vectors(self, histories, users):
        return self.users_UD[users]

    def naive_score(self, user, item):
        """The plain definition; of an item that is not known the mean over those that are."""
        of = [item] if self.rankable[item] else np.flatnonzero(self.rankable)
        products = (float(u) * float(v) for i in of for u, v in zip(self.users_UD[user], self.items_ND[i], strict=True))
        return sum(products) / len(of)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    known=st.sampled_from([1, 2, 4, 8, 16]),  # a mean over these is exact
    unknown=st.integers(0, 12),
    unranked=st.integers(0, 3),
    k=st.integers(1, 30),
    masked=st.booleans(),
    factors=st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])] * 2),
    stretch=st.sampled_from([2.0**-20, 0.5, 1.0, 8.0, 2.0**20]),
)
def test_a_flat_index_lists_what_the_two_scores_add_up_to(seed, known, unknown, unranked, k, masked, factors, stretch):
    rng = np.random.default_rng(seed)
    items, users = known + unknown, 7
    teacher = Whole(rng, known, items, users, width=3)
    dueg = Whole(rng, max(items - unranked, 1), items, users, width=2)
    served = Summed(teacher, dueg, ScoreSum(0.5, *factors, stretch))
    histories = [rng.integers(0, 1, 2) for _ in range(users)]  # of item 0, which both know
    vectors_QD = served.user_vectors(histories, np.arange(users))
    items_QK, scores_QK = searcher_of(served).search(vectors_QD, k, histories if masked else None)
    for user in range(users):
        naive = {
            item: factors[0] * teacher.naive_score(user, item) + factors[1] * dueg.naive_score(user, item)
            for item in np.flatnonzero(dueg.rankable)
            if not (masked and item in histories[user])
        }
        expected = sorted(naive, key=lambda item: (-naive[item], item))[:k]
        listed = items_QK[user][items_QK[user] >= 0]
        assert listed.tolist() == expected
        assert scores_QK[user][: len(expected)].tolist() == [naive[item] for item in expected]


def test_the_index_ranks_as_the_sum_of_trained_scores_does_and_stretching_moves_no_bit(models):
    teacher, dueg = models
    of = sequences()
    mix = choose(of, teacher, dueg, [0.2, 0.8], mask_seen=True)
    served, plain = Summed(teacher, dueg, mix), Summed(teacher, dueg, ScoreSum(0.8, mix.by_teacher, mix.by_dueg))
    queries = of.queries("test")
    histories = queries.histories(of)
    found = searcher_of(served).search(served.user_vectors(histories), 20, histories)
    for other in (served, plain):
        exact = top_k(other.user_vectors(histories), other.item_vectors(), 20, histories)
        assert all((one == two).all() for one, two in zip(found, exact, strict=True))
    ids_QN = teacher.user_vectors(histories).astype(np.float64) @ teacher.item_vectors().T.astype(np.float64)
    ids_QN[:, WARM:] = ids_QN[:, :WARM].mean(axis=1, keepdims=True)
    content_QN = dueg.user_vectors(histories).astype(np.float64) @ dueg.item_vectors().T.astype(np.float64)
    listed_QK = np.take_along_axis(mix.by_teacher * ids_QN + mix.by_dueg * content_QN, found[0].astype(int), axis=1)
    np.testing.assert_allclose(found[1], listed_QK, rtol=1e-5, atol=1e-5)


def test_the_weight_is_the_best_on_validation_and_both_scores_weigh_alike_before_it(models):
    teacher, dueg = models
    of, weights = sequences(), [0.0, 0.25, 0.5, 0.75, 1.0]
    mix = choose(of, teacher, dueg, weights, mask_seen=False)
    assert list(mix.validation) == weights and mix.validation[mix.weight] == max(mix.validation.values())
    queries = of.queries("validation")
    for model, factor, share in ((teacher, mix.by_teacher, mix.weight), (dueg, mix.by_dueg, 1 - mix.weight)):
        users_QD = model.user_vectors(queries.histories(of))
        assert factor * score_deviation(users_QD, model.item_vectors()[:WARM]) == pytest.approx(share)
    assert np.log2(mix.stretch).is_integer()


def test_the_stretch_makes_the_halves_as_large_as_the_scores(models):
    teacher, dueg = PlainRecommender(WARM_N, 1), models[1]
    of = sequences()
    before = choose(of, teacher, dueg, [0.5], mask_seen=False)
    teacher.user_vectors = lambda histories, users=None: models[0].user_vectors(histories) * 64
    teacher.item_vectors = lambda: models[0].item_vectors() / 64  # the same scores
    after = choose(of, teacher, dueg, [0.5], mask_seen=False)
    assert (after.by_teacher, after.stretch) == (pytest.approx(before.by_teacher), 64 * before.stretch)
    before_ND, after_ND = (mix.table(table_of(t), table_of(dueg)) for mix, t in ((before, models[0]), (after, teacher)))
    assert (before_ND.items_ND == after_ND.items_ND).all()
    for weight in (0.0, 1.0):
        alone = choose(of, teacher, dueg, [weight], mask_seen=False)
        assert alone.stretch == (2.0**20 if weight else 2.0**-20)
        either = (teacher if weight else dueg).user_vectors(of.queries("validation").histories(of))
        items_ND = (teacher if weight else dueg).item_vectors()
        served, targets_Q = Summed(teacher, dueg, alone), of.queries("validation").target
        summed = served.user_vectors(of.queries("validation").histories(of)), served.item_vectors()
        assert (
            target_ranks(*summed, targets_Q, candidates=WARM_N)
            == target_ranks(either, items_ND, targets_Q, candidates=WARM_N)
        ).all()


def test_the_sum_gives_an_item_without_id_the_user_s_mean():
    rng = np.random.default_rng(0)
    teacher = Table(rng.normal(size=(6, 3)).astype(np.float32), np.arange(6) < 4)
    dueg = Table(rng.normal(size=(6, 5)).astype(np.float32), np.ones(6, bool))
    teacher_QD, dueg_QE = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    mix = ScoreSum(0.5, 0.3, 2.0, 4.0)
    scores_QN = mix.users(teacher_QD, dueg_QE) @ mix.table(teacher, dueg).items_ND.T
    ids_QN = teacher_QD @ teacher.items_ND.T
    ids_QN[:, 4:] = ids_QN[:, :4].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores_QN, 0.3 * ids_QN + 2.0 * dueg_QE @ dueg.items_ND.T, rtol=1e-4, atol=1e-5)


def test_either_reads_what_it_knows_of_a_history(models):
    served = Summed(*models, ScoreSum(0.5, 1.0, 1.0))
    with_cold, without = [np.array([3, WARM, 5, WARM + 1, 7])], [np.array([3, 5, 7])]
    ids, content = served.user_vectors(with_cold)[0, :12], served.user_vectors(with_cold)[0, 12:]
    assert (ids == models[0].user_vectors(without)[0]).all()
    assert (content == models[1].user_vectors(with_cold)[0]).all()
    with pytest.raises(MolarError) as error:
        served.user_vectors([np.array([WARM, WARM + 1])])
    assert str(error.value) == (
        "the teacher knows no item of this history, so there is no score sum: add an item that was trained on, "
        "or serve the DUEG alone (build_index.serve: dueg, then `dvc repro build_index`)"
    )


def test_score_deviation_equals_the_deviation_of_all_scores():
    rng = np.random.default_rng(0)
    users_QD, items_ND = rng.normal(1, 2, (70, 6)).astype(np.float32), rng.normal(3, 1, (50, 6)).astype(np.float32)
    scores_QN = users_QD.astype(np.float64) @ items_ND.T
    around_mean_QN = scores_QN - scores_QN.mean(axis=1, keepdims=True)
    assert score_deviation(users_QD, items_ND) == pytest.approx(np.sqrt((around_mean_QN**2).mean()))


def test_what_is_written_is_read_to_the_last_bit(models, tmp_path):
    mix = choose(sequences(), *models, [0.1, 1 / 3], mask_seen=False)
    with artifacts.write(tmp_path / "index") as out:
        write(mix, out)
    assert read(artifacts.read(tmp_path / "index", "build_index")) == mix
    with artifacts.write(tmp_path / "index"):
        pass
    assert read(artifacts.read(tmp_path / "index", "build_index")) is None
    for other in ({"weight": 1.0, "validation": []}, {"weight": 1.0}):
        with artifacts.write(tmp_path / "index") as out:
            (out / "sum.json").write_text(json.dumps(other))
        with pytest.raises(MolarError) as error:
            read(artifacts.read(tmp_path / "index", "build_index"))
        assert str(error.value) == (
            f"{tmp_path / 'index' / 'sum.json'} is of another version of this project: run `dvc repro build_index`"
        )


def test_no_validation_query_is_said_in_one_line(models):
    of = sequences()
    nothing = type(of)(**vars(of) | {"train_end": np.diff(of.offsets).astype(np.int32)})
    nothing = type(of)(**vars(nothing) | {"valid_end": nothing.train_end})
    with pytest.raises(MolarError) as error:
        choose(nothing, *models, [0.5], mask_seen=False)
    assert str(error.value) == (
        "no validation query to choose the score sum's weight on: see data/catalog/summary.json"
    )
