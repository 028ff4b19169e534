"""benchmarks/scale.py, approximate.py and the world that both are run on: drawn as told, told as measured."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import approximate, scale
from benchmarks.generated import BATCH, HISTORY, MEAN, SHORTEST, lengths, world, zipf
from pipeline.recommender.batches import epoch_batches


def test_a_world_is_of_the_size_asked_for_and_depends_on_its_seed_alone() -> None:
    one, again, other = world(3000, 400), world(3000, 400), world(3000, 400, seed=1)
    assert np.array_equal(one.items, again.items) and not np.array_equal(one.items, other.items)
    lengths_U = np.diff(one.offsets)
    assert len(one) == len(lengths_U) == 3000 and one.num_warm == one.num_items == 400
    assert lengths_U.min() == SHORTEST and lengths_U.mean() == pytest.approx(MEAN, rel=0.01)
    assert one.items.min() >= 0 and one.items.max() < 400
    assert np.array_equal(one.train_end + 2, lengths_U) and np.array_equal(one.valid_end + 1, lengths_U)


def test_drawing_in_blocks_leaves_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.generated.BLOCK", 7)
    items = world(100, 50).items  # the last block is a part of one
    assert len(items) == lengths(100).sum() and set(items) <= set(range(50))
    assert len(set(items[-30:])) > 3  # nothing was left unwritten


def test_the_first_users_are_a_fair_sample_of_lengths() -> None:
    lengths_U = lengths(100_000)
    for quantile in (0.1, 0.5, 0.9, 0.99):
        few, all_ = np.quantile(lengths_U[:1000], quantile), np.quantile(lengths_U, quantile)
        assert few == pytest.approx(all_, rel=0.05)


def test_popularity_is_zipf_like() -> None:
    counts = np.bincount(zipf(np.random.default_rng(0).random(200_000), 1000))
    assert counts[0] / counts[9:11].mean() == pytest.approx(
        np.log(2) / np.log(12 / 11), rel=0.1
    )  # about 1 / (rank + 1)


def test_a_neighbour_tells_more_than_popularity() -> None:
    items_T = world(2000, 400).items
    shuffled_T = np.random.default_rng(0).permutation(items_T)

    def alike(order_T: np.ndarray) -> float:
        return float((order_T[1:] == order_T[:-1]).mean())

    assert alike(items_T) > 3 * alike(shuffled_T)


def test_the_line_is_recovered_and_a_curve_is_told_from_it() -> None:
    items = [10_000, 30_000, 100_000, 300_000]
    a, b, residual = scale.line(items, [0.05 + 2e-6 * n for n in items])
    assert (a, b) == (pytest.approx(0.05), pytest.approx(2e-6)) and residual == pytest.approx(0, abs=1e-9)
    assert scale.line(items, [1e-9 * n**2 for n in items])[2] > 0.3


@pytest.mark.parametrize("objective", scale.OBJECTIVES)
def test_the_parts_are_those_of_the_epoch(objective: str) -> None:
    users = 300
    cell = scale.parts(objective, items=90, users=users, steps=2)
    batches = epoch_batches(world(users, 90), HISTORY, BATCH, "windows", 0, 0)
    assert cell["steps"] == len(batches)
    assert cell["targets"] * len(batches) == (lengths(users) - 3).sum()  # two held out, and the first item is no target
    assert all(value > 0 for value in cell.values())
    assert all(value > 0 for value in scale.whole_epoch(objective, 90, users).values())


def test_the_report_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    part = {"targets": 1, "batches s": 3.0, "checkpoint s": 2.0, "once s": 5.0, "a user s": 0.01, "peak MiB": 9}
    cells = {("o", n, 1000): part | {"steps": 40, "step s": 0.5 + n / 1000} for n in (500, 1500)}
    check = {("o", 500, 1000): (cells["o", 500, 1000], {"training s": 44.0, "validation s": 16.0})}
    scale.report(cells, check)
    told = capsys.readouterr().out
    assert "s a step = 0.5000 + 1.000000 x items / 1,000; largest residual 0.0%" in told
    assert "| o | 500 | 1,000 | 40 | 45.00 s | 45.00 s | 15.00 s |" in told  # 3 + 40 x 1 + 2, and 5 + 1,000 x .01
    assert "| o | 500 | 1,000 | 44.00 s | 45.00 s | 45.00 s | 16.00 s | 15.00 s |" in told


def test_indexes_find_what_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    items_ND, users_QD = (rng.standard_normal((size, 8), dtype=np.float32) for size in (300, 20))
    approximate.compare(users_QD, items_ND, np.zeros(20, np.int64))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    recalls = {row[0].removeprefix("| "): (float(row[1]), float(row[2])) for row in rows}
    assert recalls["exact"] == recalls["flat"] == (1, 1)
    assert recalls["IVF, nprobe 1"] < recalls["IVF, nprobe 64"]  # of 69 lists
    assert recalls["PQ"][0] < recalls["PQ + 200"][0]
    assert {row[3] for row in rows[:2]} == {rows[0][3]}  # and so the same NDCG


def test_recall_counts_items_not_places() -> None:
    assert approximate.recall(np.array([[2, 1, -1], [5, 6, 7]]), np.array([[1, 2, 3], [7, 8, 9]])) == pytest.approx(0.5)


def test_approximate_trains_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    approximate.main(items=256, users=150, epochs=1, queries=20, random=True)
    told = capsys.readouterr().out
    assert "SASRec on 150 users x 256 items" in told and told.count("| exact |") == told.count("| flat |") == 2
