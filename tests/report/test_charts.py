"""Charts say what they draw: numbers as words, names escaped, ticks that are round."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import charts
from pipeline.report.charts import Bar


def test_a_bar_is_as_long_as_its_value_and_its_whisker_spans_the_interval():
    html = charts.bars("NDCG", [Bar("a<b", 0.2, 0.1, 0.4), Bar("dueg", 0.1, -0.1, 0.2, strong=True)])
    assert re.findall(r"bar( strong)?\" style=\"display:block;width:([\d.]+)%", html) == [
        ("", "50.00"),
        (" strong", "25.00"),
    ]
    assert re.findall(r"left:([\d.]+)%;width:([\d.]+)%", html) == [("25.00", "75.00"), ("0.00", "50.00")]
    assert "a&lt;b" in html and ".2000" in html and "<b" not in html.replace("</", "")


def test_tables_name_rows_and_columns_for_who_hears_them():
    html = charts.table("about", ["system", "n"], {"dueg": [".1"], "sum": [".2"]}, strong="dueg")
    assert '<tr class=strong><th scope="row">dueg</th><td>.1</td></tr>' in html
    assert html.count('scope="col"') == 2 and 'aria-label="about"' in html
    shaded = charts.shaded("by bucket", ["bucket", "a", "b"], {"1-9": [0.1, None], "10+": [0.2, 0.05]})
    assert re.findall(r"--share:([\d.]+)", shaded) == ["0.500", "1.000", "0.250"] and "<td>-</td>" in shaded


def test_a_curve_stays_within_its_axes_and_its_legend_gives_the_last_value():
    html = charts.curves("loss", "step", {"a": [(0.0, 3.0), (10.0, 1.0)], "b": [(5.0, 2.0)]})
    points = [
        tuple(map(float, pair.split(","))) for line in re.findall(r'points="([^"]+)"', html) for pair in line.split()
    ]
    assert points[0] == (charts.LEFT, charts.TOP) and points[1] == (
        charts.WIDTH - charts.RIGHT,
        charts.HEIGHT - charts.BOTTOM,
    )
    assert "a (1)" in html and "b (2)" in html
    assert charts.curves("none", "step", {}) == ""
    assert "polyline" in charts.curves("flat", "step", {"a": [(1.0, 1.0)]})


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_a_few_round_numbers_within(low, width):
    found = charts.ticks(low, low + width)
    assert 1 <= len(found) <= 9
    assert all(
        low - 1e-6 * width - 1e-9 * abs(low) <= tick <= low + width * (1 + 1e-6) + 1e-9 * abs(low) for tick in found
    )
