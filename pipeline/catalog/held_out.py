"""Which items are held out of training altogether: those of a list, or a share drawn by hash.

The draw looks at one item at a time, so it depends neither on the other items nor on who chose them: an item that is
cold (or warm) today is so in every later, larger catalogue.
"""

from __future__ import annotations

import hashlib

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest


def item_ids(raw: Raw, params: Ingest, quarantine: Quarantine) -> list[str]:
    """Ids of the items that `ingest.cold_items` holds out, in the item table's or the list's order."""
    if params.cold_items == "listed":
        return listed(raw, quarantine)
    if params.cold_items == "drawn":
        return [item.item_id for item in raw.items if drawn(item.item_id, params.cold_share, params.cold_seed)]
    return []


def drawn(item_id: str, share: float, seed: int) -> bool:
    """Is this item among the `share` that the seed draws? The same on every machine and in every catalogue."""
    digest = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def listed(raw: Raw, quarantine: Quarantine) -> list[str]:
    """The ids in cold_items.txt that have a row in the item table; the others are quarantined."""
    path = raw.root / "cold_items.txt"
    if not path.is_file():
        raise MolarError(f"{path} not found: write one item id a line, or set ingest.cold_items to 'none'")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise MolarError(f"{path} is not UTF-8: save it as UTF-8 text") from None
    entries = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    ids = {item.item_id for item in raw.items}
    for number, item_id in entries:
        if item_id not in ids:
            quarantine.add(path.name, number, f"item is not in {raw.items_file}", item_id)
    raw.rows_read[path.name] = len(entries)
    return [item_id for _, item_id in entries if item_id in ids]
