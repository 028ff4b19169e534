"""What `running` makes of a training that does not fit into memory; locks and launchers are test_launch.py's."""

import re
from pathlib import Path

import pytest
import torch

from pipeline.errors import MolarError
from pipeline.params import load_params
from stages.command import LOWER, running
from tests.catalog.shop import refusal
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("stage", LOWER)
def test_a_training_that_does_not_fit_says_what_to_lower(stage: str) -> None:
    def too_large() -> None:
        with running(stage):
            torch.empty(2**60)

    told = refusal(too_large)
    assert re.match(rf"{stage} does not fit into memory \(.*allocate.*\): lower {re.escape(LOWER[stage])}$", told), told
    with running(stage):
        pass  # its lock is free again


def test_a_gpu_s_own_error_counts_as_well() -> None:
    with pytest.raises(MolarError, match=r"\(CUDA out of memory\): lower"), running("train_dueg"):
        raise torch.OutOfMemoryError("CUDA out\n of memory")


def test_other_errors_stay_what_they_are() -> None:
    for stage, error in (("train_dueg", RuntimeError("shapes")), ("evaluate", torch.OutOfMemoryError("CUDA"))):
        with pytest.raises(RuntimeError, match=str(error)), running(stage):
            raise error


def test_what_it_names_are_params() -> None:
    known = load_params(ROOT / "params.yaml").model_dump()
    for stage, words in LOWER.items():
        named = re.findall(rf"{stage}(?:\.\w+)+", words)
        assert named
        for name in named:
            value = known
            for key in name.split("."):
                value = value[key]
