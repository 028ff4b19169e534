"""Which device, how many threads: machine settings that say where something is computed, not what.

They move a result as far as rounding does, and a training with dropout further: a GPU draws its masks from another
generator than a CPU, so that it is as another seed.
"""

from __future__ import annotations

import torch

from pipeline import processes
from pipeline.errors import MolarError
from pipeline.params import Runtime


def named(name: str, what: str) -> torch.device:
    """The device that torch calls so: cpu, cuda or cuda:N, for callers who name one themselves.

    Raises MolarError, which opens with `what` and the name: there is no such device, or none here.
    """
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise ValueError  # torch knows more kinds than this project was ever run on
    except (RuntimeError, TypeError, ValueError):
        raise MolarError(f"{what} = {name!r}: should be cpu, cuda or cuda:N") from None
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise MolarError(f"{what} = {name!r}, but torch sees {gpus or 'no'} GPU{'s' * (gpus > 1)} here: set it to cpu")
    return device


def pick(runtime: Runtime) -> torch.device:
    """The device to compute on, torch's CPU threads set; of several processes each has a GPU of its own.

    Raises MolarError: `cuda` is asked for and absent, or there are more processes here than GPUs.
    """
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise MolarError(
            "runtime.device = 'cuda', but torch sees no GPU here: set it to auto or cpu, or MOLAR_DEVICE=cpu"
        )
    if runtime.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if processes.count() == 1:
        return torch.device("cuda")
    if processes.local_rank() >= torch.cuda.device_count():
        raise MolarError(
            f"process {processes.local_rank() + 1} of this machine has no GPU of its own, torch sees "
            f"{torch.cuda.device_count()}: lower runtime.processes (MOLAR_PROCESSES), or set runtime.device to cpu"
        )
    torch.cuda.set_device(processes.local_rank())
    return torch.device("cuda", processes.local_rank())
