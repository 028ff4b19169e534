"""`molar experiment`: tables of rows, each a set of params, computed through DVC and compared.

    molar experiment run table5               compute what is missing: three seeds of every row, on the demo world
    molar experiment run table5 --seeds 1 --only "w/o CL"
    molar experiment show table5              the table, with tests and the paper's figures
    molar experiment new mine                 a file from how params.yaml differs from the committed one

docs/experiments.md says what a file may hold.
"""

from typing import Annotated

import typer

from stages.command import command

app = typer.Typer(help="Tables of rows, each a set of params: compute and compare them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="File name in experiments/, without .yaml.")]
Data = Annotated[str | None, typer.Option(help="One of the file's data sets; without it the first.")]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of every row.")]


@app.command("run")
@command
def run(
    name: Name,
    seeds: Seeds = 3,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ROW", help="These rows; may be repeated.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on after a row that fails or lacks a model.")
    ] = False,
    data: Data = None,
) -> None:
    """Compute the rows that are not there yet; a killed run goes on where it stopped."""
    from pipeline.experiments import run as runner

    runner.run(name, data, range(seeds), only or [], keep_going)


def main() -> None:
    """`python -m stages.experiment`."""
    app()


if __name__ == "__main__":
    main()
