"""One recommendation as people see it: a table for the terminal, the cards of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.catalog.catalogue import Items

SHOWN_HISTORY = 10  # latest items that the terminal lists


@dataclass(frozen=True)
class Card:
    """An item on show: `score` is None in a history, `image` None where there is no picture."""

    title: str
    item_id: str
    details: str
    score: float | None
    image: bytes | None


def cards(items: Items, indices: Sequence[int], scores: Sequence[float] | None, pictures: bool) -> list[Card]:
    """What to show of some items, in order. `pictures` False leaves them unread."""
    return [
        Card(
            title=items.titles[idx] or items.item_ids[idx],
            item_id=items.item_ids[idx],
            details=", ".join(items.attributes[idx].values()),
            score=None if scores is None else float(scores[place]),
            image=items.image_bytes(int(idx)) if pictures else None,
        )
        for place, idx in enumerate(indices)
    ]


def terminal(who: str, history: Sequence[Card], recommended: Sequence[Card]) -> Group:
    """The history in brief, then the ranked table."""
    above = Text(f"{who} chose {len(history)} item{'s' if len(history) != 1 else ''}")
    above.append(", the latest last:\n" if len(history) > 1 else ":\n")
    for card in history[-SHOWN_HISTORY:]:
        above.append(f"  {card.title}\n", style="dim")
    table = Table(title="recommended next", title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("title")
    table.add_column("details", style="dim")
    table.add_column("id", style="dim", overflow="fold")  # to be copied, so never cut
    table.add_column("score", justify="right")
    for rank, card in enumerate(recommended, 1):
        table.add_row(str(rank), Text(card.title), Text(card.details), Text(card.item_id), f"{card.score:.3f}")
    return Group(above, table)
