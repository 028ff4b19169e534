"""A stage that does nothing but what TOY says, for tests/stages/test_launch.py: quick to start, by its own command."""

import os
import time
from pathlib import Path

import typer

from pipeline import processes
from pipeline.errors import MolarError
from pipeline.params import load_runtime
from pipeline.progress import say
from stages.command import command, running
from stages.launch import relaunched


@command
def main() -> None:
    if relaunched("tests.stages.toy_stage", load_runtime()):
        return
    rank = processes.rank()
    with running("toy", shared=True):
        Path(f"process-{rank}").write_text(str(os.getpid()))
        match os.environ["TOY"]:
            case "mistake of all":
                raise MolarError("all three colours are missing")
            case "mistake of the second":
                if rank == 1:
                    raise MolarError("the second colour is missing")
                time.sleep(0.5)
                raise RuntimeError("connection closed by peer")
            case "bug":
                os._exit(7)
            case "killed":
                os.kill(os.getpid(), 9)
            case "long":
                time.sleep(600)
        say(f"done by {processes.count()}")
        os._exit(0)  # nothing to leave: they never joined


if __name__ == "__main__":
    typer.run(main)
