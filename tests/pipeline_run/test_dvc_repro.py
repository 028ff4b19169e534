"""What DVC promises with this dvc.yaml, held end to end on a miniature world: only what changed is run, and shared."""

from __future__ import annotations

from pathlib import Path

from .project import STAGES, Project

UNALIGNED = ["train_dueg", "build_index", "evaluate"]  # all that alignment can change


def test_a_second_repro_runs_nothing(project: Project) -> None:
    assert project.dvc("repro").unchanged == list(STAGES)


def test_an_experiment_reruns_what_it_touches_and_going_back_runs_nothing(project: Project) -> None:
    aligned = project.digests("train_dueg")
    assert project.dvc("exp", "run", "--name", "unaligned", "-S", "train_dueg.alignment.weight=0").ran == UNALIGNED
    assert project.digests("train_dueg") != aligned
    assert "weight: 0\n" in (project.root / "params.yaml").read_text()  # -S edits params.yaml, and the edit stays
    project.run("git", "checkout", "-q", "HEAD", "--", "params.yaml", "dvc.lock")
    back = project.dvc("repro")
    assert (back.ran, back.restored) == ([], UNALIGNED)
    assert project.digests("train_dueg") == aligned
    assert project.run("git", "status", "--porcelain") == ""


def test_a_param_that_changes_no_byte_downstream_reruns_its_stage_alone(project: Project) -> None:
    project.set_params({"ingest": {"max_quarantine": 0.06}})
    assert project.dvc("repro").ran == ["ingest"]
    project.restore()


def test_an_edit_of_machine_settings_reruns_nothing(project: Project) -> None:
    project.set_params({"runtime": {"workers": 0}})
    assert project.dvc("repro", "--dry").ran == []
    project.run("git", "checkout", "-q", "HEAD", "--", "params.yaml")


def test_a_clone_pulls_what_another_has_computed_and_runs_nothing(project: Project, tmp_path: Path) -> None:
    project.dvc("remote", "add", "--quiet", "--default", "--force", "shared", str(tmp_path / "remote"))
    project.commit("remote")
    project.dvc("push", "--quiet")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "-q", str(project.root), str(clone.root))
    clone.dvc("pull", "--quiet")
    again = clone.dvc("repro")
    assert (again.ran, again.unchanged) == ([], list(STAGES))
    assert clone.digests("evaluate") == project.digests("evaluate")
