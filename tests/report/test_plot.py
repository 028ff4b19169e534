"""The picture of a table: the figures of its page, drawn where they belong, and one file that needs nothing else."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.experiments.figures import Figures, figures
from pipeline.report import dots
from pipeline.report.plot import svg
from stages import experiment
from tests.catalog.shop import refusal
from tests.experiments.kept import made_up
from tests.experiments.toy import Toy

SVG = "{http://www.w3.org/2000/svg}"


def of_class(root: ET.Element, tag: str, name: str) -> list[ET.Element]:
    return [one for one in root.iter(f"{SVG}{tag}") if name in one.get("class", "").split()]


def test_its_figures_and_places_are_those_of_the_page(found: Figures) -> None:
    root = ET.fromstring(svg(found))
    means, differences = dots.means(found), dots.differences(found)
    words = [one.text for one in root.iter(f"{SVG}text")]
    assert [one.text for one in of_class(root, "text", "name")] == [row.row for row in found.rows]
    for dot in (*means, *differences):
        assert dot.figures in words and (dot.title or dot.figures) in root.findtext(f"{SVG}desc", "")
    drawn = [dot for dot in (*means, *differences) if dot.value is not None]
    marks = of_class(root, "circle", "mean")
    assert len(marks) == len(drawn) == 7 and "missing" in words, "huge has no record"
    assert ["open" in one.get("class", "") for one in marks] == [not dot.filled for dot in drawn]
    for rows, group in ((means, marks[:4]), (differences, marks[4:])):  # a larger value stands further to the right
        values = [dot.value for dot in rows if dot.value is not None]
        places = [float(one.get("cx", "")) for one in group]
        assert sorted(range(len(values)), key=values.__getitem__) == sorted(range(len(places)), key=places.__getitem__)
    assert len(of_class(root, "circle", "seed")) == sum(len(dot.seeds) for dot in drawn if len(dot.seeds) > 1)


def test_all_of_it_lies_in_the_picture_and_asks_for_nothing(found: Figures) -> None:
    text = svg(found)
    root = ET.fromstring(text)
    width, height = (float(root.get(side, "")) for side in ("width", "height"))
    for one in root.iter():
        for key in ("x", "x1", "x2", "cx"):
            assert 0 <= float(one.get(key, 0)) <= width
        for key in ("y", "y1", "y2", "cy"):
            assert 0 <= float(one.get(key, 0)) <= height
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|<image|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text and svg(found) == text


def test_names_that_a_picture_could_trip_over(found: Figures) -> None:
    rows = [replace(row, row=f"<{row.row}> & more") for row in found.rows]
    named = replace(found, rows=rows, reference=rows[0].row)
    assert "<whole> & more" in [one.text for one in ET.fromstring(svg(named)).iter(f"{SVG}text")]
    long = made_up("table2", "demo")
    ET.fromstring(svg(replace(long, rows=[replace(row, error=0.002) for row in long.rows])))


def test_the_command_writes_it_and_refuses_where_there_is_nothing(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(toy.root)
    experiment.plot("toy", data="films")
    first = Path("toy-films.svg").read_text("utf-8")
    assert capsys.readouterr().err == "plot: 5 rows -> toy-films.svg\n"
    with pytest.raises(SystemExit):
        experiment.plot("toy", Path("nowhere/x.svg"), data="films")
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert refusal(lambda: svg(figures("toy", "demo"))) == (
        "toy on demo: nothing has been computed to be drawn: `molar experiment run toy`"
    )
    experiment.plot("toy", Path("toy-films.svg"), data="films")
    assert Path("toy-films.svg").read_text("utf-8") == first
