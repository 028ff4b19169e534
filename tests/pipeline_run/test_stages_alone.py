"""Each stage alone, in a folder that holds what dvc.yaml says it depends on and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .project import STAGES, Project, sandbox


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_with_its_deps_alone_writes_the_same_bytes(project: Project, tmp_path: Path, stage: str) -> None:
    """Two promises at once: dvc.yaml names every file of code and data that is read, and equal inputs give equal bytes.

    It is also what shows that nothing which trains reads data/world, the demo world's truth.
    """
    alone = sandbox(project, tmp_path / "alone", stage, {})
    alone.run(sys.executable, "-m", f"stages.{stage}")
    assert alone.digests(stage) == project.digests(stage)
