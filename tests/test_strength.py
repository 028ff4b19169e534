"""benchmarks/strength.py: one budget for every model, and a choice that sees validation alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import strength
from benchmarks.strength import BUDGETS, GRIDS, METRICS, PEERS, SEEDS, Runs, configured, search
from benchmarks.teacher import preset_params
from pipeline.params import Params

DATA = ("ml-100k", "ml-1m")
ROUNDS = BUDGETS["ml-100k"].rounds


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", GRIDS)
def test_a_grid_is_twelve_different_possible_configurations(data: str, model: str) -> None:
    preset = preset_params(data)
    made = {name: configured(preset, model, overrides, 8, 8) for name, overrides in GRIDS[model].items()}
    assert len(made) == 12
    assert len({_what_counts(params, model) for params in made.values()}) == 12
    assert {params.train_teacher.model for params in made.values()} == {model}


def _what_counts(params: Params, model: str) -> str:
    """The params that this user model reads."""
    teacher = params.train_teacher
    return repr((getattr(teacher, model), teacher.objective, teacher.training))


def test_every_round_is_for_the_best_of_the_last_by_validation() -> None:
    reached = {f"c{i}": float(np.sin(i)) for i in range(12)}  # best: c8, then c2 and c7
    asked: list[tuple[str, int]] = []

    def validation(name: str, epochs: int) -> float:
        asked.append((name, epochs))
        return reached[name]

    assert search(list(reached), ROUNDS, validation) == "c8"
    assert [sum(epochs == at for _, epochs in asked) for at, _ in ROUNDS] == [count for _, count in ROUNDS]
    best = sorted(reached, key=lambda name: -reached[name])
    for at, count in ROUNDS:
        assert {name for name, epochs in asked if epochs == at} == set(best[:count])


def test_a_later_round_decides_alone_and_the_first_of_equals_wins() -> None:
    names = [f"c{i}" for i in range(12)]
    assert search(names, ROUNDS, lambda name, at: float(name == "c1" if at == ROUNDS[-1][0] else name == "c0")) == "c1"
    assert search(names, ROUNDS, lambda name, at: 0.0) == "c0"


class _NoTest:
    """Sequences whose test queries nobody may ask for."""

    def queries(self, which: str) -> None:
        raise AssertionError(f"the search asked for {which} queries")


def test_the_search_never_ranks_a_test_query(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each run is done once, unless the params behind it change."""
    done: list[tuple[str, int, int]] = []

    class State:
        curve = [{"ndcg@10": 0.1}, {"ndcg@10": 0.2}]  # noqa: RUF012

    def trained(params: Params, sequences: object, seed: int, scratch) -> tuple[None, State]:
        done.append((params.train_teacher.model, seed, params.train_teacher.training.max_epochs))
        (scratch / "last.safetensors").touch()
        return None, State()

    monkeypatch.setattr(strength, "RESULTS", tmp_path)
    monkeypatch.setattr(strength, "trained", trained)
    preset = preset_params("ml-100k")
    runs = Runs("ml-100k", "fpmc", preset, _NoTest())  # type: ignore[arg-type]
    winner = runs.winner()
    assert len(done) == sum(count for _, count in ROUNDS)
    with pytest.raises(AssertionError, match="test queries"):
        runs.final(winner, 0)
    done.clear()
    Runs("ml-100k", "fpmc", preset, None).validation(winner, ROUNDS[-1][0])
    assert not done
    changed = preset.model_copy(update={"protocol": preset.protocol.model_copy(update={"max_history": 20})})
    Runs("ml-100k", "fpmc", changed, _NoTest()).validation(winner, ROUNDS[-1][0])  # type: ignore[arg-type]
    assert done == [("fpmc", 0, ROUNDS[-1][0])]
    kept = [path.name for path in (tmp_path / "ml-100k" / "fpmc" / f"{winner}-0").glob("[0-9]*.json")]
    assert kept == [f"{ROUNDS[-1][0]}.json"]  # the others were of other params


def test_a_run_killed_before_its_first_figure_is_not_another_s_beginning(tmp_path, monkeypatch) -> None:
    def trained(params: Params, sequences: object, seed: int, scratch) -> None:
        found.append((scratch / "last.safetensors").exists())
        (scratch / "last.safetensors").touch()
        raise KeyboardInterrupt

    found: list[bool] = []
    monkeypatch.setattr(strength, "RESULTS", tmp_path)
    monkeypatch.setattr(strength, "trained", trained)
    preset = preset_params("ml-100k")
    changed = preset.model_copy(update={"protocol": preset.protocol.model_copy(update={"max_history": 20})})
    for params in (preset, preset, changed):
        with pytest.raises(KeyboardInterrupt):
            Runs("ml-100k", "fpmc", params, _NoTest()).validation("base", 6)  # type: ignore[arg-type]
    assert found == [False, True, False]


def test_peers_are_told_by_the_metrics_of_the_table() -> None:
    for peers in PEERS.values():
        for model, (_, figures) in peers.items():
            assert model in GRIDS and len(figures) == len(METRICS) + 1


@pytest.mark.parametrize("data", DATA)
def test_a_budget_narrows_from_all_twelve_and_its_winner_goes_on(data: str) -> None:
    budget = BUDGETS[data]
    epochs, counts = zip(*budget.rounds, strict=True)
    assert counts[0] == 12 and list(counts) == sorted(counts, reverse=True)
    assert list(epochs) == sorted(epochs) and epochs[-1] < budget.max_epochs > budget.patience
    assert SEEDS == 3
