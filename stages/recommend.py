"""`recommend`: what comes next for a user, or for any history.

    molar recommend u0007                                     a user of the catalogue, by id
    molar recommend --history "Toy Story (1995), 318" -k 5    titles or ids, oldest first; repeat the option at will
    molar recommend u0007 --html page.html                    one page with the pictures
    molar recommend --all lists.parquet                       every user's list

Serves what data/index holds (`build_index.serve`); reads data/catalog, data/embeddings and data/dueg, and where it is
the score sum data/teacher as well. It asks what `pipeline.serving` answers in Python (docs/api.md).
"""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import command
from stages.paths import DATA


@command
def main(
    user: Annotated[str | None, typer.Argument(help="user id")] = None,
    history: Annotated[list[str] | None, typer.Option(help="titles or ids, oldest first, in place of a user")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="length of the list")] = 10,
    html: Annotated[Path | None, typer.Option(help="write a page with the pictures")] = None,
    all_users: Annotated[Path | None, typer.Option("--all", help="write every user's list as Parquet")] = None,
    seen: Annotated[
        bool | None, typer.Option("--seen/--no-seen", help="list items of the history too (default: as params.yaml)")
    ] = None,
) -> None:
    """Recommend the next items for a user or a history."""
    import numpy as np
    from rich.console import Console

    from pipeline.catalog.names import find_items, find_user
    from pipeline.errors import MolarError
    from pipeline.progress import say
    from pipeline.recommender.evaluation import lists
    from pipeline.report import recommendation, results
    from pipeline.report.page import page
    from pipeline.report.place import check_place
    from pipeline.serving import Catalogue, Recommender

    if [user is not None, bool(history), all_users is not None].count(True) != 1:
        raise MolarError("say whom to recommend for: a user id, --history with titles or ids, or --all FILE.parquet")
    if html is not None and all_users is not None:
        raise MolarError("--html shows one list: give a user id or --history with it, not --all")
    for path in (html, all_users):
        if path is not None:
            check_place(path)
    catalogue = Catalogue.open(DATA)
    items, sequences = catalogue.stored, catalogue.sequences
    row = None  # of the user; a history in its place is nobody's
    if user is not None:
        row = find_user(catalogue.user_ids, user)
        who, chosen = f"user {user}", sequences.history(row)
    elif history:
        who, chosen = "this history", find_items(catalogue, history)

    recommender = Recommender.load(DATA, catalogue=catalogue)
    if all_users is not None:
        found_by_block = lists(sequences, lambda of, users: recommender.search(of, users, k, seen=seen))
        written = results.write_lists(all_users, found_by_block, catalogue.item_ids)
        say(f"lists of {written:,} users -> {all_users}")
        return
    found, scores = recommender.search([chosen], None if row is None else np.array([row]), k, seen=seen)
    real = found[0] >= 0
    before = recommendation.cards(items, chosen.tolist(), None, pictures=html is not None)
    after = recommendation.cards(items, found[0][real].tolist(), scores[0][real].tolist(), pictures=html is not None)
    if html is not None:
        html.write_text(page(who, before, after), "utf-8")
        say(f"page -> {html}")
    Console().print(recommendation.terminal(who, before, after))  # last: whoever reads it may have gone


if __name__ == "__main__":
    typer.run(main)
