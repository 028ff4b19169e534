"""Which device, how many threads: machine settings that cannot change what is computed, only where."""

from __future__ import annotations

import torch

from pipeline.errors import MolarError
from pipeline.params import Runtime


def pick(runtime: Runtime) -> torch.device:
    """The device to compute on, torch's CPU threads set. Raises MolarError if `cuda` is asked for and absent."""
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise MolarError(
            "runtime.device = 'cuda', but torch sees no GPU here: set it to auto or cpu, or MOLAR_DEVICE=cpu"
        )
    return torch.device("cuda" if runtime.device != "cpu" and torch.cuda.is_available() else "cpu")
