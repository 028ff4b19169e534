"""The oracle: the process's own probabilities, read back from the files, and the ranking nobody beats."""

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.world.oracle import Truth, open_truth
from tests.world.conftest import SMALL, Drawn
from tests.world.test_process import replay


@pytest.fixture(scope="module")
def truth(drawn: Drawn) -> Truth:
    return open_truth(artifacts.read(drawn.truth, stage="demo"))


def user_names(drawn: Drawn) -> list[str]:
    return [f"u{number:03d}" for number in range(1, drawn.params.users + 1)]


def ordinary_counts(drawn: Drawn) -> np.ndarray:
    return np.bincount(drawn.world.events.user_E[~drawn.world.events.cold_E])


def ndcg_at_10(scores_QN: np.ndarray, targets_Q: np.ndarray) -> float:
    ranks = (scores_QN > scores_QN[np.arange(len(targets_Q)), targets_Q][:, None]).sum(axis=1)
    return float(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean())


@pytest.mark.parametrize("cold", [False, True])
def test_scores_from_the_files_equal_those_of_the_process(drawn: Drawn, truth: Truth, cold: bool) -> None:
    events, names = drawn.world.events, user_names(drawn)
    for rows, expected_QN in replay(drawn.world.items, drawn.params.weights, events, cold):
        got_QN = truth.scores([names[user] for user in events.user_E[rows]], events.step_E[rows])
        np.testing.assert_array_equal(got_QN, expected_QN)


def test_scores_are_log_probabilities_over_the_right_items(drawn: Drawn, truth: Truth) -> None:
    names, counts = user_names(drawn), ordinary_counts(drawn)
    is_cold_N = drawn.world.items.cold_N
    for steps, possible_N in ((counts - 1, ~is_cold_N), (counts, is_cold_N)):
        scores_QN = truth.scores(names, steps)
        assert scores_QN.dtype == np.float64 and scores_QN.shape == (len(names), drawn.params.items)
        np.testing.assert_allclose(np.log(np.exp(scores_QN).sum(axis=1)), 0, atol=1e-12)
        np.testing.assert_array_equal(np.isfinite(scores_QN), np.broadcast_to(possible_N, scores_QN.shape))


def test_the_oracle_beats_popularity_by_far_and_needs_every_factor(drawn: Drawn, truth: Truth) -> None:
    names, counts = user_names(drawn), ordinary_counts(drawn)
    events = drawn.world.events
    targets = events.item_E[np.flatnonzero(events.cold_E) - 1]
    oracle = ndcg_at_10(truth.scores(names, counts - 1), targets)
    popularity = np.bincount(events.item_E[~events.cold_E], minlength=drawn.params.items).astype(float)
    assert oracle > 0.4 > 4 * ndcg_at_10(np.broadcast_to(popularity, (len(names), len(popularity))), targets)
    for factor in ("category", "colour", "shape", "brand", "community"):
        blind = Truth(**{**vars(truth), "weights": SMALL.weights.model_copy(update={factor: 0.0})})
        assert ndcg_at_10(blind.scores(names, counts - 1), targets) < oracle - 0.03


def test_item_ids_are_in_raw_order(drawn: Drawn, truth: Truth) -> None:
    lines = (drawn.raw / "items.csv").read_text("utf-8").splitlines()[1:]
    assert truth.item_ids == [line.split(",")[0] for line in lines]


def test_unknown_user_is_one_line(truth: Truth) -> None:
    with pytest.raises(MolarError) as raised:
        truth.scores(["nobody"], [0])
    assert str(raised.value) == ("user nobody is not of the demo world: set evaluate.oracle to false for other data")


def test_step_past_the_end_is_one_line(drawn: Drawn, truth: Truth) -> None:
    choices = int(ordinary_counts(drawn)[0]) + 1
    with pytest.raises(MolarError) as raised:
        truth.scores(["u001"], [choices])
    assert str(raised.value) == (
        f"user u001 of the demo world has no choice {choices} (it has {choices}): "
        "ingest the world unfiltered or set evaluate.oracle to false"
    )
