"""One miniature project, reproduced once, for all tests of this folder."""

from __future__ import annotations

import pytest

from .project import STAGES, Project, new_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Every stage has run once and dvc.lock is committed; a test leaves it as it found it."""
    fresh = new_project(tmp_path_factory.mktemp("run") / "project")
    assert tuple(fresh.dvc("repro").ran) == STAGES
    fresh.commit("run")
    return fresh
