"""`molar experiment`: tables of rows, each a set of params, computed through DVC and compared.

    molar experiment run table5               compute what is missing: three seeds of every row, on the demo world
    molar experiment run table5 --seeds 1 --only "w/o CL"
    MOLAR_DEVICES=cuda:0,cuda:1 molar experiment run table5          two rows at once, a GPU each
    molar experiment show table5              the table, with tests and the paper's figures
    molar experiment report table5            the same as one page, table5.html: with charts, buckets, what was run
    molar experiment plot table5              its chart as a picture, table5-demo.svg, for a page of docs
    molar experiment new mine                 a file from how params.yaml differs from the committed one
    molar experiment push table5              send what has been computed: records by Git, artifacts by DVC
    molar experiment pull table5              bring it: `run` then computes what is missing, `show` is the same table

docs/experiments.md says what a file may hold.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from stages.command import command

app = typer.Typer(help="Tables of rows, each a set of params: compute and compare them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="File name in experiments/, without .yaml.")]
Data = Annotated[str | None, typer.Option(help="One of the file's data sets; without it the first.")]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of every row.")]
ShownSeeds = Annotated[int | None, typer.Option(min=1, help="Seeds 0, 1, ... alone; without it all that are there.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="ROW", help="These rows; may be repeated.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Leave out rows that fail or lack a model.")]
Against = Annotated[str | None, typer.Option(metavar="ROW", help="Test the others against this row.")]
Out = Annotated[Path | None, typer.Argument(help="The page; without it named after the table, and the data if given.")]
Picture = Annotated[Path | None, typer.Argument(help="The SVG; without it named after the table and the data.")]
Format = Annotated[Literal["terminal", "markdown", "latex", "csv"], typer.Option("--format", help="How to write it.")]
Remote = Annotated[str | None, typer.Option(help="DVC remote of the artifacts; without it the default one.")]
Licence = Annotated[
    str | None,
    typer.Option(help="Of what is published, on the cards; without it apache-2.0 for the demo, else unknown."),
]
GitRemote = Annotated[str, typer.Option(help="Git remote of the records.")]
Buckets = Annotated[bool, typer.Option("--buckets", help="By popularity and by length of history, too.")]


@app.command("new")
@command
def new(name: Name) -> None:
    """Start a file from how params.yaml differs from the committed one."""
    from pipeline.experiments import new as start
    from pipeline.progress import say

    path = start.new(name)
    say(f"{path} has the difference as a row; give it a name, and add others")
    say(f"`git checkout -- params.yaml` undoes the change here, `molar experiment run {name}` computes the rows")


@app.command("run")
@command
def run(name: Name, seeds: Seeds = 3, only: Only = None, keep_going: KeepGoing = False, data: Data = None) -> None:
    """Compute the rows that are not there yet; a killed run goes on where it stopped."""
    from pipeline.experiments import run as runner

    runner.run(name, data, range(seeds), only or [], keep_going)


@app.command("show")
@command
def show(
    name: Name,
    seeds: ShownSeeds = None,
    against: Against = None,
    data: Data = None,
    format: Format = "terminal",
    buckets: Buckets = False,
) -> None:
    """Show the table of what has been computed, the paper's figures beside it."""
    from pipeline.experiments.figures import figures
    from pipeline.experiments.formats import written

    print(written(figures(name, data, range(seeds) if seeds else None, against), format, buckets), end="")


@app.command("report")
@command
def report(
    name: Name,
    out: Out = None,
    seeds: ShownSeeds = None,
    against: Against = None,
    data: Data = None,
) -> None:
    """Write what has been computed of the table as one page, which opens anywhere, without a network."""
    from pipeline.experiments.figures import figures
    from pipeline.progress import say
    from pipeline.report.place import check_place
    from pipeline.report.table_page import page

    out = out or Path(f"{name}-{data}.html" if data else f"{name}.html")
    check_place(out)
    html = page(figures(name, data, range(seeds) if seeds else None, against))
    out.write_text(html, "utf-8")
    say(f"report: {len(html.encode()) / 1e3:.0f} KB -> {out}")


@app.command("plot")
@command
def plot(
    name: Name,
    out: Picture = None,
    seeds: ShownSeeds = None,
    against: Against = None,
    data: Data = None,
) -> None:
    """Draw the chart of what has been computed as one SVG, legible on light and dark pages."""
    from pipeline.experiments.figures import figures
    from pipeline.experiments.table import load_table
    from pipeline.progress import say
    from pipeline.report.place import check_place
    from pipeline.report.plot import svg

    out = out or Path(f"{name}-{data or next(iter(load_table(name).data))}.svg")
    check_place(out)
    found = figures(name, data, range(seeds) if seeds else None, against)
    out.write_text(svg(found), "utf-8")
    say(f"plot: {len(found.rows)} rows -> {out}")


@app.command("push")
@command
def push(
    name: Name,
    data: Data = None,
    remote: Remote = None,
    git_remote: GitRemote = "origin",
    licence: Licence = None,
) -> None:
    """Send the rows that have been computed, with their cards and artifacts, to where colleagues find them."""
    from functools import partial

    from pipeline.experiments import share
    from pipeline.report import card

    share.push(name, data, remote, git_remote, partial(card.of_record, licence=licence))


@app.command("pull")
@command
def pull(name: Name, data: Data = None, remote: Remote = None, git_remote: GitRemote = "origin") -> None:
    """Bring the rows that colleagues have computed; records of one's own stay as they are."""
    from pipeline.experiments import share

    share.pull(name, data, remote, git_remote)


def main() -> None:
    """`python -m stages.experiment`."""
    app()


if __name__ == "__main__":
    main()
