"""The report of one run: a page that opens anywhere, without a network, and whose every number is a saved one.

Sections are functions from what the stages saved (report.json, curves, summaries) to HTML; `page` puts them in order.
Nothing is computed here but shares of a width: what the page says, the files say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pipeline.report import charts, gallery, scatter
from pipeline.report.agreement import Agreement
from pipeline.report.charts import Bar
from pipeline.report.page import picture, sectioned
from pipeline.report.recommendation import Card
from pipeline.report.results import ORDER
from pipeline.retrieval.metrics import short

OURS = "dueg"  # what evaluate compares every other system with
SMOOTHED = 40  # points of a loss curve, each the mean of as many steps

STYLE = (
    charts.STYLE
    + gallery.STYLE
    + scatter.STYLE
    + """
.strip { display: flex; gap: .5rem; overflow-x: auto; padding-bottom: .4rem; }
.strip li { flex: 0 0 6.2rem; font-size: .78rem; } .strip li.hit { border: 2px solid var(--accent); }
.strip .words { padding: .35rem .45rem; } .strip .title { font-weight: 400; }
.example { border-top: 1px solid var(--line); padding: .9rem 0; } .example p { margin: .5rem 0 .35rem; }
"""
)


@dataclass(frozen=True)
class Example:
    """A test query: what the user had chosen, what was recommended, and where the choice that followed was ranked."""

    user_id: str
    history: list[Card]
    recommended: list[Card]
    target: Card
    rank: int  # from 1


def page(title: str, sections: Mapping[str, str]) -> str:
    """The whole page; a section without content is left out, from the contents too."""
    return sectioned(title, "", sections, STYLE)


def comparison(report: Mapping[str, Any], served: str) -> str:
    """Every system, `served` marked: bars with 95 % intervals, the table, the DUEG against the others."""
    headline = report["headline"]
    test = report["test"][headline]
    parts = [
        f"<p>{report['test']['queries']:,} test queries, each target among {report['test']['candidates']:,} items; "
        f"items of the history are {'out of the ranking' if headline == 'masked' else 'ranked too'}. "
        "Bars: NDCG@10; lines over them: 95 % intervals (1.96 standard errors over users).</p>",
        '<div class="pair">',
        f"<div><h3>What came next</h3>{charts.bars('NDCG@10, test queries', _bars(test['systems'], served))}</div>",
    ]
    if report["cold_among_cold"]:
        cold = report["cold_among_cold"]
        drawn = charts.bars("NDCG@10 of cold targets among cold items", _bars(cold[headline]["systems"], served))
        parts.append(f"<div><h3>New items, among {cold['candidates']:,} that nobody was trained on</h3>{drawn}</div>")
    parts.append("</div>")
    cutoffs = sorted(int(key[5:]) for key in next(iter(test["systems"].values())) if key.startswith("ndcg@"))
    metrics = [f"{metric}@{cutoff}" for cutoff in cutoffs for metric in ("ndcg", "recall")]
    rows = {
        name: [*(short(of[metric]) for metric in metrics), short(of["standard_error"]["ndcg@10"])]
        for name, of in _ordered(test["systems"])
    }
    parts.append(charts.table("test queries", ["system", *metrics, "SE of ndcg@10"], rows, served))
    against = {
        pair.replace("-", " - ", 1): [
            short(of["ndcg@10"]["mean"]),
            f"{short(of['ndcg@10']['low'])} to {short(of['ndcg@10']['high'])}",
            f"{of['ndcg@10']['p_holm']:.3g}",
        ]
        for pair, of in _ordered(test["differences"], f"{OURS}-")
    }
    about = "differences of NDCG@10, paired by user; p of a sign-flip test after Holm's correction for all pairs"
    parts.append(charts.table(about, ["pair", "difference", "95 % interval", "p"], against))
    return "\n".join(parts)


def buckets(report: Mapping[str, Any]) -> str:
    """NDCG@10 by the target's popularity and by the length of the history."""
    found = report["test"][report["headline"]]["buckets"]
    words = {
        "popularity": "by training interactions of the item that came next",
        "history": "by length of the history",
    }
    tables = []
    for of, about in words.items():
        systems = dict(_ordered(found[of]))
        names = sorted(systems[OURS], key=lambda bucket: int(re.split(r"\D", bucket)[0]))
        rows = {
            f"{name} ({systems[OURS][name]['queries']:,})": [
                systems[system].get(name, {}).get("ndcg@10") for system in systems
            ]
            for name in names
        }
        tables.append(charts.shaded(f"NDCG@10 {about}; queries in brackets", [of, *systems], rows))
    return "\n".join(tables)


def training(
    validation: Mapping[str, Sequence[tuple[float, float]]], losses: Mapping[str, Sequence[tuple[float, float]]]
) -> str:
    """Validation NDCG@10 by epoch, and the fine-tuning's losses by step."""
    ndcg = charts.curves("validation NDCG@10 by epoch", "epoch", validation)
    smooth = {kind: _smoothed(points) for kind, points in losses.items()}
    loss = charts.curves("losses of fine-tuning by step", "step", smooth)
    parts = [f"<div><h3>Validation NDCG@10</h3>{ndcg}</div>"]
    if loss:
        parts.append(f"<div><h3>MIRM, loss by kind (means of {SMOOTHED} stretches)</h3>{loss}</div>")
    return f'<div class="pair">{"".join(parts)}</div>'


def alignment(found: Mapping[str, Agreement]) -> str:
    """What of the teacher's user vector each content vector tells."""
    if not found:
        return ""
    rows = {name: [f"{of.cosine:.3f}", f"{of.nearest:.2%}"] for name, of in found.items()}
    among = next(iter(found.values())).among
    rows["by chance"] = ["0.000", f"{1 / among:.2%}"]
    about = f"a user's vector by the teacher, read by a linear map from another; of {among:,} users new to the map"
    return charts.table(about, ["read from", "mean cosine", "the user's own is the nearest"], rows)


def examples(shown: Sequence[Example]) -> str:
    """Users with their pictures, hits and misses."""
    return "\n".join(
        f'<div class="example"><h3>User {escape(one.user_id)}: the next choice was ranked {one.rank:,}</h3>\n'
        f"<p>History, latest first</p>{_strip(one.history[::-1])}\n"
        f"<p>Recommended, best first</p>{_strip(one.recommended, one.target.item_id)}\n"
        + ("" if one.rank <= len(one.recommended) else f"<p>Chosen</p>{_strip([one.target])}")
        + "</div>"
        for one in shown
    )


def facts(data: Mapping[str, str], versions: Mapping[str, str], digests: Mapping[str, str], params: str) -> str:
    """Data, machine and versions, content digests of every artifact, and the params as they stand."""
    tables = {"data": data, "machine and versions": versions}
    parts = [
        '<div class="pair">',
        *(f"<div>{charts.table(about, [], _one_cell(rows))}</div>" for about, rows in tables.items()),
        "</div>",
        charts.table("SHA-256 of each artifact's manifest", [], _one_cell({n: d[:16] for n, d in digests.items()})),
        f"<details><summary>params.yaml</summary><pre>{escape(params)}</pre></details>",
    ]
    return "\n".join(parts)


def _one_cell(rows: Mapping[str, str]) -> dict[str, list[str]]:
    return {name: [value] for name, value in rows.items()}


def _bars(systems: Mapping[str, Any], served: str) -> list[Bar]:
    rows = []
    for name, of in _ordered(systems):
        value, error = of["ndcg@10"], 1.96 * of["standard_error"]["ndcg@10"]
        rows.append(Bar(name, value, value - error, value + error, name == served))
    return rows


def _ordered(systems: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """As the stage's own table has them; files have them by name."""
    return [(prefix + name, systems[prefix + name]) for name in ORDER if prefix + name in systems]


def _strip(cards: Sequence[Card], hit: str | None = None) -> str:
    tiles = []
    for card in cards:
        marked = ' class="hit"' if card.item_id == hit else ""
        said = "<strong>chosen:</strong> " if card.item_id == hit else ""
        words = f'<div class="words"><div class="title">{said}{escape(card.title)}</div></div>'
        tiles.append(f'<li{marked}><div class="frame">{picture(card.image)}</div>{words}</li>')
    return f'<ol class="strip" tabindex="0">{"".join(tiles)}</ol>'


def _smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of about SMOOTHED stretches of equally many points."""
    size = max(len(points) // SMOOTHED, 1)
    stretches = [points[start : start + size] for start in range(0, len(points) - size + 1, size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in stretches]
