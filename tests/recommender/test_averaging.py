import math

import pytest
import torch
from torch import nn

from pipeline.recommender.averaging import WeightAverage


def walk(average: WeightAverage, weight: nn.Parameter, values: list[float]) -> None:
    """Set the weight to one value after another, as an optimiser would."""
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            weight.fill_(value)
        average.update(step)


def test_equals_the_recurrence_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, epochs=2, steps_per_epoch=5)
    values = [3.0, -1.0, 2.0, 0.5]
    walk(average, model.weight, values)
    expected = 1.0
    for step, value in enumerate(values, start=1):
        decay = min(math.exp(-1 / 10), step / (step + 9))
        expected = decay * expected + (1 - decay) * value
    assert average.values["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_no_memory_is_the_weights_themselves():
    model = nn.Linear(3, 3)
    average = WeightAverage(model, epochs=0, steps_per_epoch=7)
    walk(average, model.weight, [0.1, 0.7])
    assert torch.equal(average.values["weight"], model.weight)


def test_the_model_holds_the_average_within_the_block_alone():
    model = nn.Linear(2, 2, bias=False)
    average = WeightAverage(model, epochs=1, steps_per_epoch=100)
    walk(average, model.weight, [5.0] * 3)
    with pytest.raises(KeyError), average.applied():
        assert 0 < model.weight.abs().max() < 5.0
        raise KeyError
    assert torch.equal(model.weight, torch.full((2, 2), 5.0))


def test_frozen_parameters_are_left_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    average = WeightAverage(model, epochs=1, steps_per_epoch=10)
    assert set(average.values) == {"1.weight", "1.bias"}
