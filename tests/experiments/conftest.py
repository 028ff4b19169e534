"""One toy, whose table has been run with one seed, for all tests of this folder."""

from __future__ import annotations

import pytest

from .sharing import with_one_row
from .toy import Toy, made


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A toy that has run nothing."""
    return made(tmp_path_factory.mktemp("toy") / "checkout")


@pytest.fixture(scope="session")
def ran(fresh: Toy) -> tuple[Toy, list[str], list[str]]:
    """The toy after its first run: what that one said, and the stages that it executed."""
    said = fresh.molar("run", "toy", "--seeds", "1")
    return fresh, said, fresh.executions()


@pytest.fixture(scope="session")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A toy with one row to share; tests take copies."""
    return with_one_row(tmp_path_factory.mktemp("computed") / "checkout")
