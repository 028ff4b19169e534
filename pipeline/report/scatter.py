"""A map of the items: their embeddings in two dimensions, one dot each, coloured by an attribute, as an SVG page.

The two dimensions are the principal components of the *raw* embeddings, centred. Why principal components: they are
exact, the same on every run, and their axes say how much of the variance they show, so that a reader knows how much
is hidden; UMAP and t-SNE draw handsomer islands whose distances mean nothing. Why raw: whitening gives every direction
the same variance, so that any two of a whitened set would do equally well, and none would show much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MolarError
from pipeline.report.geometry import Floats, gram, sample
from pipeline.report.page import document

# Paul Tol's "muted" scheme, made to be told apart with any kind of colour vision.
COLOURS = ("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933")
GREY = "#bbbbbb"
OTHER = "other or none"
NAMED = 20  # attributes that a message lists, the most common first
MOST_DOTS = 20_000  # more would bring a browser to its knees and hide each other
WIDTH, HEIGHT, LEGEND, MARGIN = 780, 680, 220, 36

STYLE = """
svg.map { display: block; width: 100%; height: auto; margin-top: 1.25rem; background: #fff; font: 14px system-ui,
  sans-serif; border: 1px solid var(--line); border-radius: .6rem; }
.map text { fill: #1d1f23; } .map text.soft { fill: #666c76; }
"""


@dataclass(frozen=True)
class Projection:
    """The first two principal components: each item's place, and the share of the variance that each shows."""

    places_N2: NDArray[np.float64]
    shares: tuple[float, float]


def project(embeddings_ND: Floats) -> Projection:
    """Principal components of the rows, centred on their mean. The largest entry of each axis is positive."""
    centre_D = embeddings_ND.mean(axis=0, dtype=np.float64)
    values_D, axes_DD = np.linalg.eigh(gram(embeddings_ND, centre_D))
    axes_D2 = axes_DD[:, ::-1][:, :2]
    axes_D2 = axes_D2 * np.sign(axes_D2[np.abs(axes_D2).argmax(axis=0), np.arange(axes_D2.shape[1])])
    # Projected first and centred after: the product needs no centred copy of the embeddings.
    places_N2 = embeddings_ND @ axes_D2 - centre_D @ axes_D2
    total, first = values_D.clip(0).sum() or 1.0, values_D[::-1][:2].clip(0)
    missing = 2 - places_N2.shape[1]  # embeddings of one dimension
    shares = [*(first / total).tolist(), 0.0]
    return Projection(np.pad(places_N2, ((0, 0), (0, missing))), (shares[0], shares[1]))


def attribute_values(attributes: Sequence[dict[str, str]], name: str) -> list[str | None]:
    """Every item's value of an attribute, None where it has none. Of a list ("Drama, Comedy") the first entry counts.

    Raises MolarError for an attribute that no item has.
    """
    values = [(each.get(name) or "").split(", ")[0] or None for each in attributes]
    if not any(values):
        common = [key for key, _ in Counter(key for each in attributes for key in each).most_common(NAMED + 1)]
        known = ", ".join([*common[:NAMED], *(["..."] if common[NAMED:] else [])]) or "none at all"
        raise MolarError(f"no item has an attribute {name!r}; there is {known}")
    return values


def telling_attribute(attributes: Sequence[dict[str, str]]) -> str | None:
    """The attribute that a map is coloured by when nobody says: of those with two values or more that at least half
    of the items have, the one with the fewest values, then the one most items have, then by name. None if there is
    no such attribute."""
    found = []
    having = Counter(key for each in attributes for key, value in each.items() if value)
    # Amazon's items have thousands of attributes between them, of which hardly any is common.
    for name in (name for name, number in having.items() if 2 * number >= len(attributes)):
        counts = Counter(value for value in attribute_values(attributes, name) if value is not None)
        if len(counts) >= 2:
            found.append((len(counts), -counts.total(), name))
    return min(found)[2] if found else None


def page(
    projection: Projection, names: Sequence[str], attribute: str | None, values: Sequence[str | None], seed: int
) -> str:
    """The map's HTML. `names` (N) appear when the pointer rests on a dot, `values` (N) give the colours."""
    dots = sample(len(names), seed, MOST_DOTS)
    shown = f"{len(names):,} items" if len(dots) == len(names) else f"{len(dots):,} of {len(names):,} items, drawn"
    by = f", coloured by {escape(attribute)}" if attribute else ""
    words = f"<p>{shown}{by}: raw embeddings, centred, along their two strongest directions. Near here is not "
    words += "always near in all dimensions. Rest the pointer on a dot to see its item.</p>"
    return document("Map of the items", words + "\n" + svg(projection, names, attribute, values, dots), STYLE)


def svg(
    projection: Projection,
    names: Sequence[str],
    attribute: str | None,
    values: Sequence[str | None],
    dots: NDArray[np.integer],
) -> str:
    """One circle per entry of `dots`, a legend, each axis's share of the variance; one scale for both axes."""
    counts = Counter(value for value in values if value is not None)
    frequent = sorted(counts, key=lambda value: (-counts[value], value))[: len(COLOURS)]
    colour = dict(zip(frequent, COLOURS, strict=False))
    x_N, y_N = projection.places_N2.T
    span = max(np.ptp(x_N) / (WIDTH - 2 * MARGIN), np.ptp(y_N) / (HEIGHT - 2 * MARGIN)) or 1.0
    left_N = WIDTH / 2 + (x_N - (x_N.min() + x_N.max()) / 2) / span
    top_N = HEIGHT / 2 - (y_N - (y_N.min() + y_N.max()) / 2) / span
    radius = 3.5 if len(dots) <= 5000 else 2
    parts = [
        f'<svg class="map" viewBox="0 0 {WIDTH + LEGEND} {HEIGHT}" role="img" aria-label="map of the items">',
        '<g fill-opacity=".75">',
    ]
    for i in dots:
        value = values[i]
        paint = GREY if value is None else colour.get(value, GREY)
        title = names[i] if value is None else f"{names[i]} ({value})"
        parts.append(
            f'<circle cx="{left_N[i]:.1f}" cy="{top_N[i]:.1f}" r="{radius}" fill="{paint}">'
            f"<title>{escape(title)}</title></circle>"
        )
    parts.append("</g>")
    one, two = (f"component {n}: {100 * share:.1f} % of the variance" for n, share in enumerate(projection.shares, 1))
    parts.append(f'<text class="soft" x="{WIDTH / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{one}</text>')
    turned = f'transform="translate(18 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle"'
    parts.append(f'<text class="soft" {turned}>{two}</text>')
    parts += _legend(attribute, frequent, counts, len(values))
    return "\n".join([*parts, "</svg>"])


def _legend(attribute: str | None, frequent: Sequence[str], counts: Counter[str], total: int) -> list[str]:
    """A heading, then a square, a value and its number of items per line."""
    if attribute is None:
        return []
    lines = [(COLOURS[place], value, counts[value]) for place, value in enumerate(frequent)]
    rest = total - sum(number for _, _, number in lines)
    if rest:
        lines.append((GREY, OTHER, rest))
    parts = [f'<text x="{WIDTH}" y="60" font-weight="600">{escape(attribute)}</text>']
    for place, (paint, value, number) in enumerate(lines):
        y = 86 + 26 * place
        short = value if len(value) <= 20 else value[:19] + "…"
        parts.append(
            f'<rect x="{WIDTH}" y="{y - 11}" width="13" height="13" rx="3" fill="{paint}"/>'
            f'<text x="{WIDTH + 21}" y="{y}">{escape(short)} ({number:,})</text>'
        )
    return parts
