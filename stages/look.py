"""`look`: what the item embeddings look like, before and after conditioning.

    molar look                                      a table: shared direction, directions in use, near-duplicates
    molar look --gallery page.html                  twelve items, even over popularity, each with its ten neighbours
    molar look --gallery page.html --items "Toy Story (1995), 318"
    molar look --map map.html --by genres           one dot per item, coloured by an attribute
    molar look --json numbers.json                  the table for a program

Reads data/catalog and data/embeddings, or the embeddings in data/dueg where it was trained jointly with its MIRM;
changes nothing under data/.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import command
from stages.paths import CATALOG, DUEG, EMBEDDINGS

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.report.geometry import Geometry


@command
def main(
    gallery: Annotated[Path | None, typer.Option(help="write a page of items and their nearest neighbours")] = None,
    items: Annotated[list[str] | None, typer.Option(help="titles or ids for the gallery, in place of a draw")] = None,
    draw: Annotated[int, typer.Option(min=1, help="items in the gallery, drawn evenly over popularity")] = 12,
    k: Annotated[int, typer.Option("-k", min=1, help="neighbours of an item")] = 10,
    plot: Annotated[Path | None, typer.Option("--map", help="write a page with a map of all items")] = None,
    by: Annotated[str | None, typer.Option(help="attribute to compare and to colour the map by")] = None,
    json: Annotated[Path | None, typer.Option(help="write the numbers of the table as JSON")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of whatever is drawn")] = 0,
) -> None:
    """Look at the item embeddings: a table of their geometry, neighbours with pictures, a map."""
    from rich.console import Console

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.catalog.names import find_items
    from pipeline.errors import MolarError
    from pipeline.mirm.own import OWN_EMBEDDINGS, own_or
    from pipeline.mirm.shards import conditioned, read_embeddings
    from pipeline.progress import say
    from pipeline.report import gallery as gallery_page
    from pipeline.report import geometry, scatter
    from pipeline.report.place import check_place

    if items and gallery is None:
        raise MolarError("--items chooses what the gallery shows: give --gallery FILE.html with it")
    written = {what: path for what, path in {"numbers": json, "gallery": gallery, "map": plot}.items() if path}
    for path in written.values():
        check_place(path)
    catalog, embedded = artifacts.read(CATALOG, "ingest"), artifacts.read(EMBEDDINGS, "embed_items")
    if DUEG.exists():  # they may be looked at before there is one
        embedded = own_or(artifacts.read(DUEG, "train_dueg"), OWN_EMBEDDINGS, embedded)
    catalogue, sequences = open_items(catalog), open_sequences(catalog)
    counts_N = sequences.training_counts()
    if embedded.facts["items"] != len(catalogue):
        raise MolarError(
            f"{embedded.directory} holds {embedded.facts['items']:,} items and {CATALOG} {len(catalogue):,}: "
            f"run `dvc repro {embedded.stage}`"
        )
    if len(catalogue) < 2:
        raise MolarError("a single item has no neighbour: there is nothing to look at")
    attribute = by or scatter.telling_attribute(catalogue.attributes)
    values = scatter.attribute_values(catalogue.attributes, attribute) if attribute else [None] * len(catalogue)
    chosen = find_items(catalogue, items) if items else gallery_page.spread(counts_N, draw, seed)

    queries = geometry.sample(len(catalogue), seed)
    sampled = "" if len(queries) == len(catalogue) else f", neighbours of {len(queries):,} drawn with seed {seed}"
    if sampled:
        say(f"look: neighbours of {len(queries):,} of {len(catalogue):,} items are sought, which may take minutes")
    measured = {}
    for name, read in (("raw", read_embeddings), ("conditioned", conditioned)):
        embeddings_ND = read(embedded)
        found_QK, cosines_QK = geometry.neighbours(embeddings_ND, queries, k)
        measured[name] = geometry.measure(embeddings_ND, queries, found_QK, cosines_QK, values)
        if name == "raw" and plot is not None:
            names = [title or item_id for title, item_id in zip(catalogue.titles, catalogue.item_ids, strict=True)]
            plot.write_text(scatter.page(scatter.project(embeddings_ND), names, attribute, values, seed), "utf-8")
        if name == "conditioned" and gallery is not None:
            shown_QK = geometry.neighbours(embeddings_ND, chosen, k)
            rows = gallery_page.rows(catalogue, chosen, *shown_QK, counts_N, sequences.num_warm)
            drawn = "chosen" if items else f"drawn evenly over popularity (seed {seed}), the most popular first"
            about = (
                f"{len(rows)} items, {drawn}, each with its {shown_QK[0].shape[1]} nearest of {len(catalogue):,}, by "
                "the cosine of conditioned embeddings. Cold items are those that no model was trained on."
            )
            gallery.write_text(gallery_page.page(about, rows), "utf-8")

    cold = len(catalogue) - sequences.num_warm
    title = f"{embedded.directory}: {len(catalogue):,} items, {cold:,} of them cold{sampled}"
    if json is not None:
        json.write_text(numbers(measured, attribute, queries=len(queries), items=len(catalogue)), "utf-8")
    for what, path in written.items():
        say(f"{what} -> {path}")
    Console(highlight=False).print(table(title, measured, attribute))  # last: whoever reads it may have gone


def table(title: str, measured: dict[str, Geometry], attribute: str | None) -> Table:
    """One line per number, one column per set of embeddings."""
    from rich.table import Table
    from rich.text import Text

    from pipeline.report.geometry import NEAR

    lines = {
        "dimensions": lambda of: f"{of.dim:,}",
        "mean cosine of two items": lambda of: f"{of.mean_cosine:.3f}",
        "effective rank": lambda of: f"{of.effective_rank:.1f}",
        "nearest neighbour's cosine, median": lambda of: f"{of.nearest_cosine:.3f}",
        f"near-duplicates (cosine > {NEAR})": lambda of: f"{of.near_duplicates:.1%}",
        "exact duplicates": lambda of: f"{of.exact_duplicates:.1%}",
        "norm, 5 %": lambda of: f"{of.norm[0]:.2f}",
        "norm, median": lambda of: f"{of.norm[1]:.2f}",
        "norm, 95 %": lambda of: f"{of.norm[2]:.2f}",
    }
    if attribute is not None:
        lines[f"neighbours of the same {attribute}"] = lambda of: percent(of.same)
        lines["  the same by chance"] = lambda of: percent(of.same_by_chance)
    shown = Table(title=Text(title), title_justify="left")
    shown.add_column("")
    for name in measured:
        shown.add_column(name, justify="right")
    for line, text in lines.items():
        shown.add_row(Text(line), *(text(of) for of in measured.values()))
    return shown


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def numbers(measured: dict[str, Geometry], attribute: str | None, **counts: int) -> str:
    """The table's numbers as JSON, with how many items there are and of how many the neighbours were sought."""
    import dataclasses
    import json

    found = {name: dataclasses.asdict(of) for name, of in measured.items()}
    return json.dumps({**counts, "attribute": attribute, **found}, indent=2) + "\n"


if __name__ == "__main__":
    typer.run(main)
