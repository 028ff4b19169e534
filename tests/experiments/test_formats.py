"""What a row is called, and every figure, stands in each format as it is; no letter of it is taken for a command."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.experiments.figures import Figures
from pipeline.experiments.formats import written

from ..conftest import ROOT
from .kept import made_up


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Figures:
    """Table 5 with rows, the reference first, named by the letters that LaTeX or Markdown takes for its own."""
    monkeypatch.chdir(ROOT)
    found = made_up("table5", "demo")
    names = ["{a|b}", r"[\x]^2", "$5 > *", "1-4 -x", "~#&%_", "ID -.5"]
    rows = [replace(row, row=name) for row, name in zip(found.rows, names, strict=True)]
    return replace(found, rows=rows, reference=names[0])


def test_latex_prints_what_is_meant(called: Figures) -> None:
    lines = [line for line in written(called, "latex", buckets=False).splitlines() if line.endswith(r"\\")]
    names = [line.partition(" & ")[0] for line in lines]
    assert names == [
        "row", r"\{a\textbar{}b\}", r"{[}\textbackslash{}x]\textasciicircum{}2", r"\$5 $>$ {*}", "1-4 -x",
        r"\textasciitilde{}\#\&\%\_", "ID $-$.5",
    ]  # fmt: skip
    assert r"& N@10 vs \{a\textbar{}b\} & vs \{a\textbar{}b\}, 95 \% & p &" in lines[0]
    assert r"& $-$.0012 & $-$.0031 to +.0006 & $<$.001 &" in lines[2], "an interval that straddles zero, a p below .001"


def test_a_bar_parts_no_cell_of_markdown(called: Figures) -> None:
    rows = [line for line in written(called, "markdown", buckets=False).splitlines() if line.startswith("|")]
    assert r"| N@10 vs {a\|b} | vs {a\|b}, 95 % |" in rows[0] and rows[2].startswith(r"| {a\|b} |")
    assert {line.replace(r"\|", "").count("|") for line in rows} == {9}
