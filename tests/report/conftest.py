"""A checkout with records of a small table, and its figures: what a page, a picture and the terminal show."""

from __future__ import annotations

import pytest

from pipeline.experiments.figures import Figures, figures
from tests.experiments.kept import shown
from tests.experiments.toy import Toy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return shown(tmp_path_factory.mktemp("shown") / "checkout")


@pytest.fixture(scope="module")
def found(toy: Toy) -> Figures:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(toy.root)
        return figures("toy", "films")
