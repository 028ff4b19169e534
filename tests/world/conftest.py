"""A small world, drawn once for all tests that only look at it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.params.demo import Demo, DemoWeights
from pipeline.world.process import World
from pipeline.world.tables import write_world

SMALL = Demo(
    seed=5,
    users=400,
    items=120,
    cold_items=12,
    min_events=5,
    mean_events=12.0,
    max_events=40,
    drift=0.05,
    weights=DemoWeights(
        category=2.4, colour=2.4, shape=2.4, brand=2.4, community=3.4, popularity=0.4, repeat_last=0.5, seen=-1.0
    ),
)


@dataclass(frozen=True)
class Drawn:
    params: Demo
    raw: Path
    truth: Path
    world: World


def draw(params: Demo, root: Path) -> Drawn:
    """Write a world below `root` as the stage does."""
    raw, truth = root / "raw", root / "world"
    with artifacts.write(truth) as truth_partial, artifacts.write(raw) as raw_partial:
        world = write_world(params, raw_partial, truth_partial)
    return Drawn(params, raw, truth, world)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return draw(SMALL, tmp_path_factory.mktemp("drawn"))
