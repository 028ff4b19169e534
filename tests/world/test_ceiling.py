"""The ceiling: the exact posterior where it can be enumerated, honest about what it sees, close where it cannot."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.retrieval.metrics import ndcg_at
from pipeline.world import ceiling, process, support
from pipeline.world.oracle import Truth, open_truth
from tests.world.conftest import SMALL, Drawn

FEW = {"category": 2, "colour": 2, "shape": 2, "brand": 2, "community": 3}  # 96 joint states
WEIGHTS = SMALL.weights.model_copy(update={"popularity": 0.7, "seen": -1.3, "repeat_last": 0.9})
ITEMS = 30


def tiny(monkeypatch: pytest.MonkeyPatch, drift: float) -> SimpleNamespace:
    """A world of a few factor values, small enough to enumerate its hidden states, with the last items cold."""
    for module in (process, support, ceiling):
        monkeypatch.setattr(module, "FACTORS", FEW)
    rng = np.random.default_rng(4)
    factors_NF = np.stack([rng.integers(values, size=ITEMS) for values in FEW.values()], axis=1).astype(np.int8)
    items = process.Items(factors_NF, rng.normal(size=ITEMS), np.arange(ITEMS) >= ITEMS - 6)
    return SimpleNamespace(items=items, weights=WEIGHTS, drift=drift)


def all_states() -> tuple[np.ndarray, np.ndarray]:
    """First and second values of every joint state, each (96, F)."""
    pairs = [[(a, b) for a in range(v) for b in range(v) if a != b] for v in FEW.values()]
    grid = np.stack(np.meshgrid(*[np.arange(len(p)) for p in pairs], indexing="ij"), axis=-1).reshape(-1, len(FEW))
    chosen = [np.array(p)[grid[:, f]] for f, p in enumerate(pairs)]
    return tuple(np.stack([c[:, place] for c in chosen], axis=1) for place in (0, 1))


def chances(world: SimpleNamespace, history: list[int], cold: bool) -> np.ndarray:
    """P(item | state, history) by the process itself: (96, N)."""
    first, second = all_states()
    seen = np.zeros((len(first), ITEMS), dtype=bool)
    seen[:, history] = True
    last = np.full(len(first), history[-1] if history else -1)
    moments = process.Moments(first, second, last, seen, np.full(len(first), cold))
    return np.exp(process.log_probabilities(world.items, world.weights, moments))


def posterior_by_paths(world: SimpleNamespace, history: list[int], cold: bool) -> np.ndarray:
    """P(next item | history), (N,): every path of hidden states, one by one, with its probability."""
    first, second = all_states()
    states = len(first)
    differs = (first[:, None] != first[None]) | (second[:, None] != second[None])  # (96, 96, F)
    moves = (1 - world.drift) * np.eye(states)
    for factor, values in enumerate(FEW.values()):
        others_same = ~np.delete(differs, factor, axis=2).any(axis=2)
        moves += world.drift / len(FEW) * others_same / (values * (values - 1))
    np.testing.assert_allclose(moves.sum(axis=1), 1)
    path = np.indices((states,) * (len(history) + 1)).reshape(len(history) + 1, -1)
    weight = np.full(path.shape[1], 1 / states)
    for step, item in enumerate(history):
        weight *= chances(world, history[:step], False)[path[step], item] * moves[path[step], path[step + 1]]
    return np.bincount(path[-1], weight, minlength=states) / weight.sum() @ chances(world, history, cold)


def probabilities(truth: object, states: int, history: list[int], cold: bool) -> np.ndarray:
    scores_RQN = ceiling.Ceiling(truth, states).scores([np.array(history, int)], [cold]).astype(float)
    return scores_RQN[:, 0] / scores_RQN[:, 0].sum(axis=1, keepdims=True)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("history", [[], [3], [3, 17], [8, 8]])
def test_with_states_for_all_it_is_the_sum_over_every_path(
    monkeypatch: pytest.MonkeyPatch, history: list[int], cold: bool
) -> None:
    world = tiny(monkeypatch, drift=0.4)
    expected_N = posterior_by_paths(world, history, cold)
    for run_N in probabilities(world, 2 * 96, history, cold):
        np.testing.assert_allclose(run_N, expected_N, rtol=2e-7, atol=0)  # scores are kept as float32
        assert ((run_N > 0) == (world.items.cold_N == cold)).all()


def test_without_drift_it_is_bayes_rule_over_a_constant_taste(monkeypatch: pytest.MonkeyPatch) -> None:
    world, history = tiny(monkeypatch, drift=0.0), [3, 17, 3, 5, 21, 17, 0]
    weight = np.ones(96)
    for step, item in enumerate(history):
        weight *= chances(world, history[:step], False)[:, item]
    expected_N = weight / weight.sum() @ chances(world, history, False)
    np.testing.assert_allclose(probabilities(world, 2 * 96, history, False)[0], expected_N, rtol=2e-7, atol=0)


def test_the_more_states_the_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean share of the probability that stands elsewhere, over draws: it falls, and is gone with all states."""
    world, history = tiny(monkeypatch, drift=0.4), [3, 17]
    expected_N = posterior_by_paths(world, history, False)
    elsewhere = []
    for states in (12, 48, 96):
        got_QN = ceiling.Ceiling(world, 2 * states).scores([np.array(history)] * 60, [False] * 60).sum(axis=0)
        got_QN /= got_QN.sum(axis=1, keepdims=True)
        elsewhere.append(np.abs(got_QN - expected_N).sum(axis=1).mean() / 2)
    assert elsewhere[0] > 1.5 * elsewhere[1] > 0.01 and elsewhere[2] < 1e-6


def test_what_is_kept_stands_for_all() -> None:
    """Averaged over the uniform number that draws, every pair has its prior mass: the estimate is unbiased."""
    rng = np.random.default_rng(2)
    history_TF = np.stack([rng.integers(values, size=3) for values in process.FACTORS.values()], axis=1)
    plausible_FS = [rng.dirichlet(np.full(v * (v - 1), 2.0)) for v in process.FACTORS.values()]
    uniform_FR = np.tile((np.arange(4000) + 0.5) / 4000, (len(process.FACTORS), 1))
    kept_F = support.supports(history_TF, plausible_FS, 600, uniform_FR)
    assert 300 < np.prod([kept.prior_RK.shape[1] for kept in kept_F]) <= 600
    assert any(np.ptp(kept.prior_RK.sum(axis=1)) > 0.01 for kept in kept_F)  # something was drawn
    for kept in kept_F:
        mass_S = np.einsum("rks,rk->s", kept.share_RKS, kept.prior_RK) / 4000
        np.testing.assert_allclose(mass_S, 1 / len(mass_S), rtol=0.05)  # 4,000 numbers, not all


@pytest.fixture(scope="module")
def truth(drawn: Drawn) -> Truth:
    return open_truth(artifacts.read(drawn.truth, stage="demo"))


def test_the_drift_is_part_of_the_truth(truth: Truth) -> None:
    assert truth.drift == SMALL.drift


def test_it_lies_between_popularity_and_the_oracle_and_its_runs_agree(truth: Truth) -> None:
    users = list(truth.rows)[:200]
    for cold in (False, True):
        steps = np.array([len(truth.rows[user]) - (1 if cold else 2) for user in users])
        starts = np.array([truth.rows[user].start for user in users])
        targets = truth.item_E[starts + steps]
        histories = [truth.item_E[start : start + step] for start, step in zip(starts, steps, strict=True)]
        scores_RQN = ceiling.Ceiling(truth, 2000).scores(histories, [cold] * len(users))
        popularity_QN = np.where(truth.items.cold_N == cold, truth.items.log_popularity_N, -np.inf)[None]
        candidates = (scores_RQN.sum(axis=0), *scores_RQN, popularity_QN, truth.scores(users, steps))
        pooled, one, other, popularity, oracle = (ndcg(scores_QN, targets) for scores_QN in candidates)
        assert popularity.mean() + 0.05 < pooled.mean() < oracle.mean() - 0.03
        assert abs(one.mean() - other.mean()) < 0.02


def ndcg(scores_QN: np.ndarray, targets_Q: np.ndarray) -> np.ndarray:
    rows_Q = np.arange(len(targets_Q)) if len(scores_QN) > 1 else np.zeros(len(targets_Q), int)
    return ndcg_at((scores_QN[rows_Q] > scores_QN[rows_Q, targets_Q][:, None]).sum(axis=1), 10)


def test_equal_histories_with_all_states_have_equal_scores_whatever_stands_beside(truth: Truth) -> None:
    """A query's score depends on its own place and history alone: neither neighbours nor targets can leak in."""
    made = ceiling.Ceiling(truth, 400)
    one, other = truth.item_E[:7], truth.item_E[20:40]
    alone = made.scores([one], [False])[:, 0]
    np.testing.assert_array_equal(made.scores([one, other], [False, True])[:, 0], alone)
    np.testing.assert_array_equal(made.scores([one, other[:3]], [False, False])[:, 0], alone)


def test_weights_past_floating_point_are_one_line(truth: Truth) -> None:
    extreme = Truth(**{**vars(truth), "weights": SMALL.weights.model_copy(update={"brand": 400.0})})
    with pytest.raises(MolarError) as raised:
        ceiling.Ceiling(extreme, 100)
    assert str(raised.value) == (
        "demo.weights sum to more than the 300 that the ceiling can compute with: "
        "lower them or set evaluate.ceiling to 0"
    )
