"""Reports: files that open, the bound, one headline, the same bytes twice."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipeline.report import results
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.ranked import VARIANTS, Evaluation, Ranked


def _ranked(queries, candidates, names, seed=0):
    rng = np.random.default_rng(seed)
    ranks = {v: {name: rng.integers(0, candidates, queries) for name in names} for v in VARIANTS}
    users = np.arange(queries, dtype=np.int32)
    shown = {v: {name: rng.integers(0, 9, candidates) for name in names} for v in VARIANTS}
    counts, lengths = rng.integers(0, 30, queries), rng.integers(2, 60, queries)
    return Ranked(
        users, rng.integers(0, candidates, queries).astype(np.int32), lengths, counts, candidates, ranks, shown
    )


@pytest.fixture
def evaluation():
    known = ["oracle", "ceiling", *results.CEILING_RUNS]
    test = _ranked(80, 50, ["popularity", "teacher", "dueg", "dueg_index", "sum", *known])
    test.ranks["masked"]["dueg"][:] = 0
    return Evaluation(test, _ranked(20, 60, ["dueg"]), _ranked(20, 10, ["dueg", *known]), 0.4, {0.4: 0.25, 0.6: 0.1})


def test_report_holds_both_variants_and_the_headline_is_the_chosen_one(evaluation):
    report = results.report(evaluation, "masked", [10, 20], 200)
    assert report["test"]["masked"]["systems"]["dueg"]["ndcg@10"] == 1.0
    assert report["test"]["unmasked"]["systems"]["dueg"]["ndcg@10"] < 1.0
    assert report["test"]["masked"]["differences"]["dueg-teacher"]["ndcg@10"]["low"] > 0
    assert report["test"]["masked"]["buckets"]["history"]["dueg"]["1-9"]["recall@10"] == 1.0
    assert report["cold_among_cold"]["chance"]["recall@10"] == 1.0
    metrics = results.headline_metrics(report)
    assert metrics["test"]["dueg"].items() >= {"ndcg@10": 1.0, "debiased recall@10": 1.0}.items()
    assert 0 < metrics["test"]["dueg"]["coverage@10"] <= 1 and 0 < metrics["test"]["dueg"]["gini@10"] < 1
    assert metrics["cold_among_cold"]["dueg"].keys() == {"ndcg@10", "recall@10"}
    assert set(metrics) == {"test", "cold_among_all", "cold_among_cold", "difference"}
    assert set(metrics["difference"]["dueg-teacher ndcg@10"]) == {"mean", "low", "high"}


def test_p_values_are_corrected_for_all_pairs_in_both_metrics(evaluation):
    found = results.report(evaluation, "masked", [10, 20], 200)["test"]["unmasked"]["differences"]
    tests = sorted((of["p_sign_flip"], of["p_holm"]) for metrics in found.values() for of in metrics.values())
    assert len(tests) == 10  # five other rankings, the index aside
    assert tests[0][1] == pytest.approx(min(10 * tests[0][0], 1), abs=1e-5)
    assert all(corrected >= raw for raw, corrected in tests)


def test_a_catalogue_without_cold_items_reports_none(evaluation):
    report = results.report(Evaluation(evaluation.test, None, None, 0.4, {0.4: 0.2}), "unmasked", [10, 20], 200)
    assert report["cold_among_all"] is None
    assert set(results.headline_metrics(report)) == {"test", "difference"}
    assert results.table(report, [10, 20]).row_count == 7


def test_files_open_and_repeat(evaluation, tmp_path):
    user_ids = [f"u{n}" for n in range(80)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        report = results.report(evaluation, "masked", [10, 20], 200)
        results.write_report(tmp_path / name, evaluation, report, user_ids)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["cold_per_query.parquet", "comparison.tsv", "per_user.parquet", "report.json"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    per_user = pq.read_table(tmp_path / "a" / "per_user.parquet")
    assert per_user["user_id"].to_pylist() == user_ids
    assert per_user["dueg_masked"].to_pylist() == [0] * 80
    assert json.loads((tmp_path / "a" / "report.json").read_text())["sum"]["id_weight"] == 0.4
    assert (tmp_path / "a" / "comparison.tsv").read_text().startswith("system\tmetric\tvalue\npopularity\tndcg@10\t")


def test_lists_leave_out_what_is_exhausted(tmp_path):
    blocks = [(["a", "b"], np.array([[2, 0], [1, -1]], np.int32), np.array([[3, 1], [2, -np.inf]], np.float32))]
    assert results.write_lists(tmp_path / "l.parquet", blocks, ["x", "y", "z"]) == 2
    assert pq.read_table(tmp_path / "l.parquet").to_pylist() == [
        {"user_id": "a", "items": [2, 0], "scores": [3.0, 1.0], "item_ids": ["z", "x"]},
        {"user_id": "b", "items": [1], "scores": [2.0], "item_ids": ["y"]},
    ]


def test_the_table_says_what_was_ranked_and_the_shares_of_oracle_and_ceiling(evaluation):
    report = results.report(evaluation, "masked", [10, 20], 200)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results.table(report, [10, 20]), results.exposure_table(report))
    assert "80 test queries, 50 items, seen items masked" in capture.get()
    assert "1 / popularity ^ 1" in capture.get() and "effective" in capture.get()
    assert capture.get().count("100%") >= 2 and "…" not in capture.get()
    assert results.difference_line(report).startswith("DUEG - teacher, NDCG@10: +0.")


def test_the_table_with_everything_in_it_fits_eighty_columns(evaluation):
    report = results.report(evaluation, "unmasked", [10, 20, 50], 200)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results.table(report, [10, 20, 50]))
    assert "…" not in capture.get()
    header = capture.get().splitlines()[3]
    assert "system" in header and "ceil." in header and "cold" in header


def test_the_runs_of_the_ceiling_are_its_error_and_no_systems(evaluation):
    report = results.report(evaluation, "unmasked", [10, 20], 200)
    systems = report["test"]["unmasked"]["systems"]
    assert list(systems)[-2:] == ["oracle", "ceiling"]
    one, other = (ndcg_at(evaluation.test.ranks["unmasked"][run], 10) for run in results.CEILING_RUNS)
    told = systems["ceiling"]["particles"]
    assert told["runs"] == [pytest.approx(one.mean(), abs=1e-6), pytest.approx(other.mean(), abs=1e-6)]
    assert told["standard_error"] == pytest.approx((one - other).std(ddof=1) / 2 / 80**0.5, abs=1e-6)
    assert "particles" not in results.headline_metrics(report)["test"]["ceiling"]
    assert results.ceiling_line(report).endswith(" among cold items")
    for ranks in evaluation.test.ranks.values():
        del ranks["ceiling"]
        for run in results.CEILING_RUNS:
            del ranks[run]
    assert "ceiling" not in results.report(evaluation, "unmasked", [10, 20], 200)["test"]["unmasked"]["systems"]
