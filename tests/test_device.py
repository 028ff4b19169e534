"""A device that somebody names is there, or the name is refused in one line."""

from __future__ import annotations

import pytest
import torch

from pipeline.device import named
from tests.catalog.shop import refusal


def test_a_device_is_called_as_torch_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("cpu", "cuda", "cuda:1"):
        assert str(named(name, "on")) == name
    assert str(named(torch.device("cpu"), "on")) == "cpu"  # type: ignore[arg-type]
    for wrong in ("gpu", "", "cuda:x", "meta", 1.5):
        assert refusal(lambda wrong=wrong: named(wrong, "on")) == f"on = {wrong!r}: should be cpu, cuda or cuda:N"
    assert refusal(lambda: named("cuda:2", "on")) == "on = 'cuda:2', but torch sees 2 GPUs here: set it to cpu"


def test_a_gpu_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refusal(lambda: named("cuda", "on")) == "on = 'cuda', but torch sees no GPU here: set it to cpu"
