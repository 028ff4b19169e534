"""What the item tables of several sources have in common: the columns asked for are there once, ids as well."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import RawItem
from pipeline.errors import MolarError


def require(path: Path, columns: Iterable[str], wanted: Iterable[str], advice: str) -> None:
    """Raise MolarError, ending in `advice`, unless every wanted name is once among the columns of `path`."""
    there = list(columns)
    for name in wanted:
        if name not in there:
            raise MolarError(f"{path} has no column '{name}' (it has {', '.join(there)}): {advice}")
        if there.count(name) > 1:
            raise MolarError(f"{path} has more than one column '{name}': rename all but one")


def distinct(items: Iterable[RawItem], file: str, quarantine: Quarantine) -> list[RawItem]:
    """The items in file order; a row of `file` without an id, or with an earlier row's, is quarantined."""
    found: dict[str, RawItem] = {}
    for item in items:
        if not item.item_id:
            quarantine.add(file, item.row, "item id is empty", item.title)
        elif item.item_id in found:
            quarantine.add(file, item.row, "item id stands in an earlier row too", item.item_id)
        else:
            found[item.item_id] = item
    return list(found.values())
