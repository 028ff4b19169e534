"""`card`: the model card of the run that lies here, to be published beside its artifacts.

    molar card                              writes MODEL_CARD.md
    molar card out/README.md --licence mit  under a licence of your choice, by Hugging Face's name for it

Reads params.yaml, dvc.lock, metrics.json and, where they are, data/catalog, data/evaluation and data/mirm.
"""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


@command
def main(
    out: Annotated[Path, typer.Argument(help="the card")] = Path("MODEL_CARD.md"),
    licence: Annotated[
        str | None, typer.Option(help="licence of what is published; without it apache-2.0 for the demo, else unknown")
    ] = None,
) -> None:
    """Write the model card of the run that lies under data/."""
    from pipeline.progress import say
    from pipeline.report import card

    card.write(Path(), out, licence=licence)
    say(f"card -> {out}")


if __name__ == "__main__":
    typer.run(main)
