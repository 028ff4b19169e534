"""Turn ranks into what people and tools read: report.json, per-user Parquet, metrics.json, plots, a table.

Promise: every summary in the report has passed the arithmetic bound between NDCG and Recall, and every difference
comes with its paired interval. `headline` names the variant (masked or unmasked) that the project's params choose.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipeline.artifacts import write_json
from pipeline.retrieval.metrics import (
    HISTORY_EDGES,
    POPULARITY_EDGES,
    PROPENSITY_EXPONENT,
    assert_bound,
    by_bucket,
    catalogue_share,
    debiased,
    gini,
    ndcg_at,
    recall_at,
    short,
    summarise,
)
from pipeline.retrieval.ranked import EXPOSED, VARIANTS, Evaluation, Ranked, Variant
from pipeline.retrieval.significance import holm, paired_bootstrap, sign_flip, standard_error

EXPOSURE = (f"coverage@{EXPOSED}", f"gini@{EXPOSED}")
ORDER = ("popularity", "teacher", "dueg", "dueg_index", "sum", "sum_index", "oracle", "ceiling")
CEILING_RUNS = ("ceiling, run 1", "ceiling, run 2")  # half of its states each: no systems, but what tells its error
PLACES = 6  # decimals of every saved figure


def summarised(ranked: Ranked, cutoffs: Sequence[int], resamples: int) -> dict[str, Any]:
    """Metrics of every system in both variants, with standard errors, chance level, and DUEG against each other one."""
    variants: dict[str, Any] = {}
    for variant in VARIANTS:
        ranks = ranked.ranks[variant]
        systems: dict[str, Any] = {}
        for name in _ordered(ranks):
            metrics = summarise(ranks[name], cutoffs)
            assert_bound(f"{name} ({variant})", metrics)
            errors = {"ndcg@10": ndcg_at(ranks[name], 10), "recall@10": recall_at(ranks[name], 10)}
            systems[name] = metrics | {
                "standard_error": {key: standard_error(of, ranked.users) for key, of in errors.items()},
                **beyond_accuracy(ranked, variant, name),
            }
        if set(CEILING_RUNS) <= set(ranks):
            systems["ceiling"]["particles"] = particle_error(
                ranks[CEILING_RUNS[0]], ranks[CEILING_RUNS[1]], ranked.users
            )
        variants[variant] = {
            "systems": systems,
            "differences": corrected(
                {
                    f"dueg-{name}": differences(ranks["dueg"], ranks[name], ranked.users, resamples)
                    for name in _ordered(ranks)
                    if name != "dueg" and not name.endswith("_index") and "dueg" in ranks
                }
            ),
            "buckets": {
                "popularity": _buckets(ranks, ranked.target_counts, POPULARITY_EDGES, cutoffs),
                "history": _buckets(ranks, ranked.history_lengths, HISTORY_EDGES, cutoffs),
            },
        }
    return {
        "queries": len(ranked.targets),
        "candidates": ranked.num_candidates,
        "chance": chance(ranked.num_candidates, cutoffs),
        **variants,
    }


def differences(
    ours_Q: NDArray[np.int64], theirs_Q: NDArray[np.int64], users_Q: NDArray[np.int32], resamples: int
) -> dict[str, dict[str, float]]:
    """Differences in NDCG@10 and Recall@10 of two rankings: 95 % bootstrap interval over users, p of sign flips."""
    pairs = {
        "ndcg@10": (ndcg_at(ours_Q, 10), ndcg_at(theirs_Q, 10)),
        "recall@10": (recall_at(ours_Q, 10), recall_at(theirs_Q, 10)),
    }
    return {
        metric: vars(paired_bootstrap(ours, theirs, users_Q, resamples))
        | {"p_sign_flip": sign_flip(ours, theirs, users_Q, resamples)}
        for metric, (ours, theirs) in pairs.items()
    }


def corrected(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Differences with `p_holm` beside each p of the sign-flip test: the family is every pair in both metrics."""
    family = {
        f"{pair} {metric}": of["p_sign_flip"] for pair, metrics in found.items() for metric, of in metrics.items()
    }
    adjusted = holm(family)
    return {
        pair: {metric: of | {"p_holm": adjusted[f"{pair} {metric}"]} for metric, of in metrics.items()}
        for pair, metrics in found.items()
    }


def beyond_accuracy(ranked: Ranked, variant: Variant, name: str) -> dict[str, Any]:
    """Coverage and Gini of the first ten places, and NDCG@10 and Recall@10 freed of the targets' popularity."""
    shown_N = ranked.exposure[variant][name]
    return {
        f"coverage@{EXPOSED}": catalogue_share(shown_N, ranked.num_candidates),
        f"gini@{EXPOSED}": gini(shown_N, ranked.num_candidates),
        "debiased": debiased(ranked.ranks[variant][name], ranked.target_counts, 10, PROPENSITY_EXPONENT),
    }


def particle_error(
    one_Q: NDArray[np.int64], other_Q: NDArray[np.int64], users_Q: NDArray[np.int32]
) -> dict[str, float | list[float]]:
    """What the filter's own chance does to the ceiling's NDCG@10, from two independent runs of half its states.

    `runs` are their figures and `standard_error` is that of their mean, which stands for the pooled ranking's: users
    are filtered independently, so half the paired difference of the runs tells it. What both runs lack it cannot tell.
    """
    one, other = ndcg_at(one_Q, 10), ndcg_at(other_Q, 10)
    return {
        "runs": [float(one.mean()), float(other.mean())],
        "standard_error": standard_error((one - other) / 2, users_Q),
    }


def chance(num_candidates: int, cutoffs: Sequence[int]) -> dict[str, float]:
    """What ranking the candidates blindly reaches on average: the target is anywhere with equal probability."""
    return summarise(np.arange(num_candidates), cutoffs)


def report(evaluation: Evaluation, headline: Variant, cutoffs: Sequence[int], resamples: int) -> dict[str, Any]:
    """All of report.json. Raises AssertionError where a summary breaks the arithmetic bound."""
    parts: dict[str, Any] = {
        "test": summarised(evaluation.test, cutoffs, resamples),
        "cold_among_all": None,
        "cold_among_cold": None,
    }
    if evaluation.cold_among_all is not None and evaluation.cold_among_cold is not None:
        parts["cold_among_all"] = summarised(evaluation.cold_among_all, cutoffs, resamples)
        parts["cold_among_cold"] = summarised(evaluation.cold_among_cold, cutoffs, resamples)
    weights = {f"{weight:g}": ndcg for weight, ndcg in evaluation.validation_by_weight.items()}
    sum_facts = {"id_weight": evaluation.id_weight, "validation_ndcg@10": weights}
    rounded: dict[str, Any] = _rounded(
        {"headline": headline, "propensity_exponent": PROPENSITY_EXPONENT, "sum": sum_facts, **parts}
    )
    return rounded


def headline_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """metrics.json: the headline variant alone, small enough for `dvc metrics diff`."""
    shown: dict[str, Any] = {}
    for part in ("test", "cold_among_all", "cold_among_cold"):
        if report[part] is not None:
            systems = report[part][report["headline"]]["systems"]
            shown[part] = {name: {m: s[m] for m in ("ndcg@10", "recall@10")} for name, s in systems.items()}
    for name, metrics in report["test"][report["headline"]]["systems"].items():
        shown["test"][name] |= {m: metrics[m] for m in EXPOSURE} | {
            f"debiased {m}": metrics["debiased"][m] for m in ("ndcg@10", "recall@10")
        }
    against = report["test"][report["headline"]]["differences"]["dueg-teacher"]
    shown["difference"] = {
        f"dueg-teacher {metric}": {key: value[key] for key in ("mean", "low", "high")}
        for metric, value in against.items()
    }
    return shown


def write_report(directory: Path, evaluation: Evaluation, report: Mapping[str, Any], user_ids: Sequence[str]) -> None:
    """report.json, per_user.parquet, cold_per_query.parquet and comparison.tsv of one evaluation."""
    write_json(directory / "report.json", report)
    ordinary = _columns(evaluation.test, user_ids, "")
    _write_table(directory / "per_user.parquet", ordinary)
    if evaluation.cold_among_all is not None and evaluation.cold_among_cold is not None:
        among_all = _columns(evaluation.cold_among_all, user_ids, "all_")
        among_cold = _columns(evaluation.cold_among_cold, user_ids, "cold_")
        _write_table(directory / "cold_per_query.parquet", among_all | among_cold)
    with (directory / "comparison.tsv").open("w", newline="") as handle:
        rows = csv.writer(handle, delimiter="\t", lineterminator="\n")
        rows.writerow(["system", "metric", "value"])
        for name, metrics in report["test"][report["headline"]]["systems"].items():
            rows.writerows([name, metric, f"{metrics[metric]:.6f}"] for metric in ("ndcg@10", "recall@10"))


def write_lists(
    path: Path,
    blocks: Iterable[tuple[list[str], NDArray[np.int32], NDArray[np.float32]]],
    item_ids: Sequence[str] | None = None,
) -> int:
    """Every user's list as Parquet: user_id, items list<int32> (or item_ids list<string> as well), scores list<float>.

    Entries of item -1 (an exhausted list) are left out. One row group a block. Returns the number of users.
    """
    fields = [("user_id", pa.string()), ("items", pa.list_(pa.int32())), ("scores", pa.list_(pa.float32()))]
    if item_ids is not None:
        fields.append(("item_ids", pa.list_(pa.string())))
    written = 0
    with pq.ParquetWriter(path, pa.schema(fields)) as writer:
        for user_ids, items_UK, scores_UK in blocks:
            real_UK = items_UK >= 0
            offsets = np.concatenate([[0], np.cumsum(real_UK.sum(axis=1))]).astype(np.int32)
            columns = [
                pa.array(user_ids, pa.string()),
                pa.ListArray.from_arrays(offsets, pa.array(items_UK[real_UK], pa.int32())),
                pa.ListArray.from_arrays(offsets, pa.array(scores_UK[real_UK], pa.float32())),
            ]
            if item_ids is not None:
                names = pa.array([item_ids[i] for i in items_UK[real_UK]], pa.string())
                columns.append(pa.ListArray.from_arrays(offsets, names))
            writer.write_table(pa.table(columns, names=[name for name, _ in fields]))
            written += len(user_ids)
    return written


def table(report: Mapping[str, Any], cutoffs: Sequence[int]) -> Table:
    """The closing table: a row a system, NDCG@10 with its standard error, shares of oracle and ceiling, cold items."""
    headline = report["headline"]
    systems = report["test"][headline]["systems"]
    cold = {part: report[part] and report[part][headline]["systems"] for part in ("cold_among_all", "cold_among_cold")}
    masking = "seen items masked" if headline == "masked" else "seen items ranked too"
    drawn = Table(
        title=f"{report['test']['queries']:,} test queries, {report['test']['candidates']:,} items, {masking}",
        box=SIMPLE_HEAD,
        padding=0,  # eighty columns hold it all
    )
    drawn.add_column("system", no_wrap=True)
    columns = [f"{letter}@{k}" for k in cutoffs for letter in ("N", "R")]
    shown_cold = ["cold\nN@10", "among\ncold"] if cold["cold_among_all"] else []
    known = {name: head for name, head in (("oracle", "oracle"), ("ceiling", "ceil.")) if name in systems}
    for column in (*columns[:1], "± SE", *columns[1:], *(f"of\n{head}" for head in known.values()), *shown_cold):
        drawn.add_column(column, justify="right", no_wrap=True)
    for name, metrics in systems.items():
        figures = [short(metrics[f"{metric}@{k}"]) for k in cutoffs for metric in ("ndcg", "recall")]
        row = [name, figures[0], short(metrics["standard_error"]["ndcg@10"]), *figures[1:]]
        row += [f"{metrics['ndcg@10'] / max(systems[top]['ndcg@10'], 1e-12):.0%}" for top in known]
        for part in ("cold_among_all", "cold_among_cold") if shown_cold else ():
            row.append(short(cold[part][name]["ndcg@10"]) if name in cold[part] else "-")
        drawn.add_row(*row, style="bold" if name == "dueg" else None)
    return drawn


def exposure_table(report: Mapping[str, Any]) -> Table:
    """What accuracy does not say, of the test queries: who is shown at all, and accuracy without popularity's help."""
    systems = report["test"][report["headline"]]["systems"]
    drawn = Table(
        title=f"first {EXPOSED} places; debiased by 1 / popularity ^ {report['propensity_exponent']:g}",
        box=SIMPLE_HEAD,
        padding=0,
    )
    drawn.add_column("system", no_wrap=True)
    for column in ("items\nshown", "Gini of\nexposure", "debiased\nN@10", "debiased\nR@10", "effective\nqueries"):
        drawn.add_column(column, justify="right", no_wrap=True)
    for name, metrics in systems.items():
        share, inequality = (metrics[m] for m in EXPOSURE)
        freed = metrics["debiased"]
        row = [f"{share:.0%}", short(inequality), short(freed["ndcg@10"]), short(freed["recall@10"])]
        drawn.add_row(name, *row, f"{freed['queries']:,.0f}", style="bold" if name == "dueg" else None)
    return drawn


def difference_line(report: Mapping[str, Any]) -> str:
    """One sentence: DUEG against its teacher on NDCG@10, with the interval."""
    found = report["test"][report["headline"]]["differences"]["dueg-teacher"]["ndcg@10"]
    return (
        f"DUEG - teacher, NDCG@10: {found['mean']:+.4f} (95 % interval {found['low']:+.4f} to {found['high']:+.4f}, "
        f"sign-flip p {found['p_sign_flip']:.3g}, {found['p_holm']:.3g} after Holm); "
        f"weight of the ID score in the sum: {report['sum']['id_weight']:g}"
    )


def ceiling_line(report: Mapping[str, Any]) -> str | None:
    """One sentence: how far the ceiling's own chance moves its NDCG@10, warm and among cold; None without ceiling."""
    parts = (("test", ""), ("cold_among_cold", " among cold items"))
    headline = report["headline"]
    found = [(report[part][headline]["systems"].get("ceiling"), where) for part, where in parts if report[part]]
    told = [
        f"{one['ndcg@10']:.4f} ± {one['particles']['standard_error']:.4f}{where}"
        for one, where in found
        if one and "particles" in one
    ]
    return f"ceiling, NDCG@10 ± what the drawing of its states moves: {', '.join(told)}" if told else None


def _ordered(ranks: Mapping[str, Any]) -> list[str]:
    return [name for name in ORDER if name in ranks]


def _buckets(
    ranks: Mapping[str, NDArray[np.int64]], values_Q: NDArray[np.int64], edges: Sequence[int], cutoffs: Sequence[int]
) -> dict[str, Any]:
    return {name: by_bucket(ranks[name], values_Q, edges, cutoffs) for name in _ordered(ranks)}


def _columns(ranked: Ranked, user_ids: Sequence[str], prefix: str) -> dict[str, pa.Array]:
    columns = {
        "user_id": pa.array([user_ids[u] for u in ranked.users], pa.string()),
        "item_idx": pa.array(ranked.targets, pa.int32()),
        "history_length": pa.array(ranked.history_lengths, pa.int32()),
        "target_count": pa.array(ranked.target_counts, pa.int64()),
    }
    for variant in VARIANTS:
        for name in _ordered(ranked.ranks[variant]):
            columns[f"{prefix}{name}_{variant}"] = pa.array(ranked.ranks[variant][name], pa.int32())
    return columns


def _write_table(path: Path, columns: Mapping[str, pa.Array]) -> None:
    pq.write_table(pa.table(dict(columns)), path)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, PLACES) if isinstance(value, float) else value
