"""`molar cache`: the per-item caches of embeddings, how large they are, and the old ones removed.

    molar cache                      each cache: how many items, how large, when it was last used, what made it
    molar cache --prune-days 30      remove those that no run has opened for 30 days (0: all of them)

There is one cache per model and way of embedding, in `$MOLAR_CACHE` (default: `.molar/embeddings`). A removed cache
costs time alone: `embed_items` computes again what it misses. What `data/` holds is not touched. While a run, here or
in an experiment's clone, may be filling a cache, nothing is removed.
"""

from typing import Annotated

import typer

from stages.command import command


@command
def main(
    prune_days: Annotated[
        float | None, typer.Option(min=0, help="Remove caches that no run has opened for so many days.")
    ] = None,
) -> None:
    """List the caches of item embeddings, and with --prune-days remove the old ones."""
    import time

    from pipeline.checkpoints import using
    from pipeline.doctor.probe import size
    from pipeline.mirm import cache
    from pipeline.progress import say

    if prune_days is not None:
        with using(cache.cache_root(), alone=True):
            removed = cache.prune(prune_days)
        say(f"removed {len(removed)} of the caches, {size(sum(old.size for old in removed))}")
    found, now = cache.listing(), time.time()
    for one in found:
        items = "cannot be read" if one.items is None else f"{one.items:>12,} items"
        days = f"used {one.days_idle(now):,.0f} days ago"
        print(f"{one.path.stem}  {items}  {size(one.size):>7}  {days}  {one.about}".rstrip())
    say(f"{len(found)} in {cache.cache_root()}, {size(sum(one.size for one in found))} in all")


if __name__ == "__main__":
    typer.run(main)
