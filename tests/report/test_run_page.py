"""The report of a run: every number on it is one of report.json's, names are escaped, nothing is fetched."""

import html as htmllib
import re

import numpy as np
import pytest

from pipeline.report import results, run_page
from pipeline.report.agreement import Agreement
from pipeline.report.recommendation import Card
from pipeline.retrieval.metrics import short
from tests.report.test_results import evaluation  # noqa: F401

SVG_NS = "http://www.w3.org/2000/svg"


@pytest.fixture
def report(evaluation):  # noqa: F811
    return results.report(evaluation, "unmasked", [10, 20], 200)


def cells(html):
    """Every row of every table: its words."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.S)
    return [[htmllib.unescape(re.sub("<[^>]+>", "", c)) for c in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_every_number_of_the_comparison_is_the_file_s(report):
    found = {row[0]: row[1:] for row in cells(run_page.comparison(report, "dueg"))}
    systems = report["test"]["unmasked"]["systems"]
    for name, of in systems.items():
        written = [of[m] for m in ("ndcg@10", "recall@10", "ndcg@20", "recall@20")] + [of["standard_error"]["ndcg@10"]]
        assert found[name] == [short(value) for value in written]
    for pair, of in report["test"]["unmasked"]["differences"].items():
        difference, interval, p = found[pair.replace("-", " - ", 1)]
        assert float(difference) == pytest.approx(of["ndcg@10"]["mean"], abs=6e-5)
        assert [float(end) for end in interval.split(" to ")] == pytest.approx(
            [of["ndcg@10"]["low"], of["ndcg@10"]["high"]], abs=6e-5
        )
        assert float(p) == pytest.approx(of["ndcg@10"]["p_holm"], rel=1e-2)


def test_every_number_of_the_buckets_is_the_file_s(report):
    rows = cells(run_page.buckets(report))
    buckets = report["test"]["unmasked"]["buckets"]
    assert len(rows) == 2 + sum(len(of["dueg"]) for of in buckets.values())
    header, *shown = rows[: 1 + len(buckets["popularity"]["dueg"])]
    for row in shown:
        bucket, queries = row[0].rsplit(" (", 1)
        for system, cell in zip(header[1:], row[1:], strict=True):
            assert cell == short(buckets["popularity"][system][bucket]["ndcg@10"])
        assert int(queries.rstrip(")").replace(",", "")) == buckets["popularity"]["dueg"][bucket]["queries"]


def card(item_id, title="a <b>"):
    return Card(title=title, item_id=item_id, details="", score=None, image=b"\x89PNG x")


def test_an_example_marks_its_hit_and_shows_what_was_missed():
    listed = [card("i1"), card("i2")]
    hit = run_page.Example("u<1>", [card("i0")], listed, card("i2"), 2)
    miss = run_page.Example("u2", [card("i0")], listed, card("i9", "chosen one"), 40)
    one, other = (run_page.examples([example]) for example in (hit, miss))
    assert one.count('class="hit"') == 1 and "Chosen" not in one and "u&lt;1&gt;" in one and "a &lt;b&gt;" in one
    assert 'class="hit"' not in other and "chosen one" in other and "ranked 40" in other


def test_the_page_stands_alone_and_leaves_out_what_is_empty(report):
    curves = {"teacher": [(1.0, 0.1), (2.0, 0.2)]}
    sections = {
        "Comparison": run_page.comparison(report, "dueg"),
        "Training": run_page.training(curves, {"image_text": [(float(s), 1.0 / s) for s in range(1, 101)]}),
        "Alignment": run_page.alignment({"the user model": Agreement(0.5, 0.25, 200)}),
        "Users": run_page.examples([]),
        "What was run": run_page.facts({"users": "1"}, {"torch": "2"}, {"ingest": "ab" * 32}, "seed: <0>"),
    }
    page = run_page.page("Molar <demo>", sections)
    assert re.findall(r'href="([^"]+)"', page) == ["#comparison", "#training", "#alignment", "#what-was-run"]
    assert set(re.findall(r'id="([^"]+)"', page)) == {"comparison", "training", "alignment", "what-was-run"}
    assert "<script" not in page and not re.search(r'(src|href)="(?!#|data:)', page)
    assert "http" not in page.replace(SVG_NS, "")
    assert "seed: &lt;0&gt;" in page and "Molar &lt;demo&gt;" in page
    assert ["by chance", "0.000", "0.50%"] in cells(page)


def test_a_loss_is_shown_as_means_of_stretches():
    points = [(float(step), float(step % 2)) for step in range(1, 1001)]
    smooth = run_page._smoothed(points)
    assert len(smooth) == run_page.SMOOTHED and np.allclose([y for _, y in smooth], 0.5, atol=0.03)
