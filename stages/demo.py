"""`molar demo`: draw the embedded example world, so that the whole pipeline runs without any data of one's own.

Writes data/raw/demo (raw tables and pictures, as a user would bring them) and data/world (the truth behind them,
for the oracle alone). Seconds on one core; params.yaml, section demo.
"""

import typer

from stages import paths
from stages.command import command, running


@command
def main() -> None:
    """Draw the embedded example world."""
    from pipeline import artifacts
    from pipeline.params import load_params
    from pipeline.world.tables import write_world

    params = load_params().demo
    with running("demo") as run:
        with artifacts.write(paths.WORLD) as truth, artifacts.write(paths.DEMO) as raw:
            world = write_world(params, raw, truth)
            events = len(world.events.item_E)
            for out in (truth, raw):
                artifacts.describe(out, users=params.users, items=params.items, events=events)
        run.done(f"{params.users:,} users, {params.items:,} items with pictures, {events:,} events", paths.DEMO)


if __name__ == "__main__":
    typer.run(main)
