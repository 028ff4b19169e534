"""A finished run in Python, for notebooks and programs: look things up, recommend, add new items.

    from pipeline.serving import Catalogue, Recommender

    recommender = Recommender.load("data")
    recommender.recommend(history=["i0007", "i0042"], k=10)      # a pyarrow table; .to_pandas() where pandas is
    recommender.similar("i0007")
    new = recommender.add_item("lantern dovar", "a lamp", "lantern.png")

Read in this order: `catalogue` (what may be named), `recommender` (what may be asked), `content` (how a new item gets
its embedding), `tables` (how the models get a row for it), `growing` (how lists get it). Nothing here writes a file.
docs/api.md has it on a page.
"""

from pipeline.serving.catalogue import Catalogue
from pipeline.serving.recommender import Recommender

__all__ = ["Catalogue", "Recommender"]
