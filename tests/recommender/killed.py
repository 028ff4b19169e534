"""A training that ends in the middle, as by Ctrl-C."""

from collections.abc import Callable

import pytest
import torch

from pipeline.recommender import fit as fitting


def killed_in_epoch(number: int, training: Callable[[], object]) -> None:
    """Run `training` until its epoch `number` is validated; torch draws otherwise then, as in a new process."""
    real, calls = fitting.validate, []

    def dies(*args):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fitting, "validate", dies)
        training()
    torch.manual_seed(123)
