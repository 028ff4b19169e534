"""A finished run in Python, for notebooks and programs: look things up, recommend, add new items.

    from pipeline.serving import Catalogue, Recommender

    recommender = Recommender.load("data")
    recommender.recommend(history=["i0007", "i0042"], k=10)      # a pyarrow table; .to_pandas() where pandas is
    recommender.similar("i0007")
    new = recommender.add_item("lantern dovar", "a lamp", "lantern.png")

Read in this order: `catalogue` (what may be named), `recommender` (what may be asked), `content` (how a new item gets
its embedding), `tables` (how the models get a row for it), `growing` (how lists get it). Nothing here writes a file.
docs/api.md has it on a page.

Promise: whoever asks for `Catalogue` alone loads no model library. Torch takes seconds to import, which a program that
looks titles up need not pay; it comes with `Recommender`, when that is first asked for.
"""

from typing import TYPE_CHECKING

from pipeline.serving.catalogue import Catalogue

if TYPE_CHECKING:
    from pipeline.serving.recommender import Recommender

__all__ = ["Catalogue", "Recommender"]


def __getattr__(name: str) -> object:
    """Import `Recommender` at its first use. Raises AttributeError: there is no such name here."""
    if name != "Recommender":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.serving.recommender import Recommender

    globals()[name] = Recommender  # from now on without this detour
    return Recommender


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # what a notebook completes
