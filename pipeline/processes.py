"""One stage in several processes: which of them this is, as its launcher says, and how they wait for each other.

Any launcher that sets torchrun's variables will do: torchrun, `accelerate launch`, or a stage that launches itself
(stages/launch.py). Without them there is one process, and nothing here waits or imports anything.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

PATIENCE = timedelta(hours=6)  # for the slowest process: the first one's checkpoints, or its share of a long stage
TOLD = "told"  # a file that the processes of one machine share


def launched() -> bool:
    """Whether a launcher started this process as one of its own."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """This one's number, from 0 to `count()` - 1."""
    return int(os.environ["RANK"]) if launched() else 0


def count() -> int:
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def local_rank() -> int:
    """This one's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def on_one_machine() -> bool:
    return int(os.environ.get("LOCAL_WORLD_SIZE", count())) == count()


def is_first() -> bool:
    """Whether this is the one that holds the lock, draws the bar and writes what all of them made."""
    return rank() == 0


def first_to_tell() -> bool:
    """Whether no other process of this launch has told yet why all of them end. Asked by one that is about to."""
    of_this_one = os.environ.get("TORCHELASTIC_ERROR_FILE")  # <of this launch>/<local rank>/error.json
    if count() == 1 or of_this_one is None:
        return True
    try:
        (Path(of_this_one).parents[1] / TOLD).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def join(*, cpu: bool) -> None:
    """Enter the group of all processes: gloo for those that compute or only count on a CPU, NCCL between GPUs."""
    if count() > 1:
        from accelerate import PartialState

        PartialState(cpu=cpu, timeout=PATIENCE).wait_for_everyone()


def meet() -> None:
    """Wait until all are here. They have joined."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def total(number: int) -> int:
    """Sum over all processes, which it waits for. They have joined with `cpu=True`."""
    if count() == 1:
        return number
    import torch
    from accelerate.utils import reduce

    return int(reduce(torch.tensor(number), "sum"))


def leave() -> None:
    """The end of the work: no message to the others after it."""
    if count() > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()
