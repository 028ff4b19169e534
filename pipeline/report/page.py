"""Self-contained HTML pages: pictures as data URIs, no script, light and dark. `page` shows a recommendation."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from pipeline.report.recommendation import Card

STYLE = """
:root { color-scheme: light dark; --ink: #1d1f23; --soft: #666c76; --ground: #f7f6f3; --card: #fff; --line: #e3e1dc;
  --accent: #9a4b1f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e7e2; --soft: #9aa0aa; --ground: #17181b; --card: #212327;
  --line: #34373d; --accent: #e39a6a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1rem; margin: 2rem 0 .75rem; }
p { color: var(--soft); margin: 0; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .9rem; }
.recommended { grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
.history { grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
.frame { aspect-ratio: 1; display: grid; place-items: center; background: var(--ground); color: var(--soft); }
.frame img { width: 100%; height: 100%; object-fit: contain; }
.words { padding: .6rem .7rem .7rem; overflow-wrap: anywhere; }
.title { font-weight: 600; } .history .title { font-weight: 400; font-size: .85rem; }
.details, .score { color: var(--soft); font-size: .82rem; }
.rank { color: var(--accent); font-weight: 700; margin-right: .35rem; }
"""
SECTIONS = """
:root { --bar: #7d97b8; } @media (prefers-color-scheme: dark) { :root { --bar: #5f7ba0; } }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: 1rem 0; font-size: .9rem; } a { color: var(--accent); }
h1 { overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin-top: 2.6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .6rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.2rem 2rem; }
.pair > * { min-width: 0; } details { margin-top: 1rem; } summary { cursor: pointer; }
pre { overflow-x: auto; background: var(--card); padding: .8rem; font-size: .8rem; border: 1px solid var(--line);
  border-radius: .5rem; } code { font-size: .85em; overflow-wrap: anywhere; }
"""


def page(who: str, history: Sequence[Card], recommended: Sequence[Card]) -> str:
    """The page's HTML. Nothing in it depends on anything but the arguments."""
    heading = f"Recommended next for {escape(who)}"
    ranked = "\n".join(_item(card, rank) for rank, card in enumerate(recommended, 1))
    before = "\n".join(_item(card, None) for card in reversed(history))
    body = f"""<p>{len(recommended)} items, best first, from a history of {len(history)}.</p>
<ol class="recommended">
{ranked}
</ol>
<h2>History, latest first</h2>
<ol class="history">
{before}
</ol>"""
    return document(heading, body)


def document(heading: str, body: str, style: str = "") -> str:
    """A whole page from its parts, all three HTML or CSS already escaped; `style` is added to every page's own."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<h1>{heading}</h1>
{body}
</body>
</html>
"""


def sectioned(title: str, lead: str, sections: Mapping[str, str], style: str) -> str:
    """A document of sections (HTML) under their names, with contents; `lead` stands before both. One without content is
    left out, from the contents too."""
    shown = {name: html for name, html in sections.items() if html}
    names = {name: name.lower().replace(" ", "-") for name in shown}
    contents = "".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, anchor in names.items())
    body = "\n".join(
        f'<section id="{names[name]}"><h2>{escape(name)}</h2>\n{html}</section>' for name, html in shown.items()
    )
    above = f'{lead}\n<nav aria-label="contents">{contents}</nav>'.lstrip()
    return document(escape(title), f"{above}\n<main>{body}</main>", SECTIONS + style)


def picture(image: bytes | None, instead: str = "no picture") -> str:
    """An <img> that holds the bytes of a picture; the words `instead`, escaped, where there is none."""
    if image is None:
        return escape(instead)
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"  # what ingest writes
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(image).decode()}">'


def _item(card: Card, rank: int | None) -> str:
    number = "" if rank is None else f'<span class="rank">{rank}</span>'
    lines = [f'<div class="title">{number}{escape(card.title)}</div>']
    if rank is not None and card.details:
        lines.append(f'<div class="details">{escape(card.details)}</div>')
    if card.score is not None:
        lines.append(f'<div class="score">score {card.score:.3f}</div>')
    return f'<li><div class="frame">{picture(card.image)}</div><div class="words">{"".join(lines)}</div></li>'
