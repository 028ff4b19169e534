"""Live curves: rows while a training runs, none twice after a kill, no trace in Git, dvc.yaml or results."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline import live as module
from pipeline.live import ROOT, Live
from pipeline.mirm import finetune as tuning
from pipeline.mirm.finetune import finetune
from pipeline.progress import console
from pipeline.recommender import fit as fitting
from tests.import_closure import DVC_YAML
from tests.mirm.shop import Shop, backbone, recipe, walks
from tests.recommender.test_fit import SOFTMAX, TRAINING, digest, objective_of, recommender
from tests.recommender.worlds import cyclic


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a commit, and every step due at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    git("init", "-q")
    from dvc.repo import Repo

    Repo.init().close()
    Path("dvc.yaml").write_text("stages: {}\n")
    Path(".gitignore").write_text("/dvclive/\n/scratch/\n")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a project")
    return tmp_path


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def rows(stage: str, name: str) -> list[tuple[int, float]]:
    with (ROOT / stage / "plots" / "metrics" / f"{name}.tsv").open(newline="") as handle:
        return [(int(row.pop("step")), float(*row.values())) for row in csv.DictReader(handle, delimiter="\t")]


def steps(stage: str, name: str) -> list[int]:
    return [step for step, _ in rows(stage, name)]


def dies(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, calls: int) -> None:
    """Like a kill at the n-th call of owner.name."""
    real, count = getattr(owner, name), []

    def until_then(*args: object, **given: object) -> object:
        count.append(1)
        if len(count) == calls:
            raise KeyboardInterrupt
        return real(*args, **given)

    monkeypatch.setattr(owner, name, until_then)


def test_rows_hold_the_means_since_the_last_one_and_dvc_draws_them(project: Path) -> None:
    live = Live("train_teacher")
    live.begin(0, 3000)  # a row every third step
    for step in range(1, 8):
        live.add(step, {"loss": float(step)}, 0.1 * step)
    live.write(7, {"ndcg@10": 0.5})
    assert rows("train_teacher", "loss") == [(3, 2.0), (6, 5.0), (7, 7.0)]
    assert rows("train_teacher", "learning_rate") == [(3, pytest.approx(0.3)), (6, pytest.approx(0.6))]
    assert rows("train_teacher", "ndcg@10") == [(7, 0.5)]
    from dvc.repo import Repo

    with Repo() as repo:
        drawn = next(repo.plots.collect(targets=[str(ROOT)]))["workspace"]["sources"]["data"]
    assert set(drawn) == {f"dvclive/train_teacher/plots/metrics/{n}.tsv" for n in ("loss", "learning_rate", "ndcg@10")}
    assert not [source for source, found in drawn.items() if "error" in found]


def test_git_ignores_the_folder_and_no_experiment_takes_it_in() -> None:
    assert str(ROOT) not in DVC_YAML.read_text("utf-8")
    ignored = ["git", "check-ignore", "dvclive/train_teacher/plots/metrics/loss.tsv"]
    assert subprocess.run(ignored, cwd=DVC_YAML.parent, check=False).returncode == 0


@pytest.mark.parametrize("inside", ["nothing", "dvc repro", "dvc exp run"])
def test_nothing_but_the_rows_is_written_and_no_server_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setenv("DVC_STUDIO_TOKEN", "isat_x")
    monkeypatch.setenv("DVC_STUDIO_REPO_URL", "git@example.org:a/b.git")
    if inside != "nothing":
        monkeypatch.setenv("DVC_ROOT", str(project))
    if inside == "dvc exp run":
        monkeypatch.setenv("DVC_EXP_BASELINE_REV", git("rev-parse", "HEAD").strip())
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection"))
    before = git("show-ref"), Path("dvc.yaml").read_bytes()
    live = Live("train_dueg")
    live.begin(0, 10)
    live.add(1, {"loss": float("nan")}, 0.1)
    live.write(2, {})
    assert (git("show-ref"), Path("dvc.yaml").read_bytes()) == before and git("status", "--short") == ""
    written = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file()}
    assert written == {f"train_dueg/plots/metrics/{name}.tsv" for name in ("loss", "learning_rate")}


def test_going_on_drops_what_is_taken_again_and_starting_anew_drops_all(project: Path) -> None:
    for begun, done, expected in ((0, 5, [1, 2, 3, 4, 5]), (3, 6, [1, 2, 3, 4, 5, 6]), (0, 2, [1, 2])):
        live = Live("x")
        live.begin(begun, 10)
        for step in range(begun + 1, done + 1):
            live.add(step, {"loss": 1.0}, 0.1)
        assert steps("x", "loss") == expected
        path = ROOT / "x" / "plots" / "metrics" / "loss.tsv"
        path.write_text(path.read_text() + "7\t0.")  # killed in the middle of a row


def test_rows_are_seconds_apart(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 60.0)
    live = Live("x")
    live.begin(0, 10)
    for step in range(1, 6):
        live.add(step, {"loss": 1.0}, 0.1)
    assert not ROOT.exists()


def test_outside_of_a_project_there_are_none(project: Path) -> None:
    Path("inner").mkdir()
    os.chdir("inner")
    live = Live("x")
    live.begin(0, 10)
    live.write(1, {"loss": 1.0})
    assert not list(Path().iterdir())


def test_a_repository_without_a_commit_is_said(project: Path) -> None:
    git("update-ref", "-d", "HEAD")
    with console.capture() as capture:
        live = Live("x")
        live.begin(0, 10)
        live.write(1, {"loss": 1.0})
        live.write(2, {"loss": 1.0})
    assert capture.get().startswith("x: no live curves (") and capture.get().count("\n") == 1


def trained(scratch: Path, live: Live | None) -> tuple[str, list[dict[str, float]]]:
    scratch.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    sequences = cyclic(40, 12)
    model = recommender(sequences)
    state = fitting.fit(
        model,
        sequences,
        TRAINING,
        objective=objective_of(sequences, SOFTMAX, 0),
        seed=0,
        mask_seen=False,
        scratch=scratch,
        live=live,
    )
    return digest(model), state.curve or []


def test_a_user_models_result_is_the_same_with_curves_killed_or_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(Path("scratch/quiet"), None)
    assert trained(Path("scratch/live"), Live("train_teacher")) == expected
    whole = steps("train_teacher", "loss")
    assert len(whole) == len(set(whole)) and steps("train_teacher", "ndcg@10")[-1] == whole[-1]
    with monkeypatch.context() as patch:
        dies(patch, fitting, "validate", calls=3)
        with pytest.raises(KeyboardInterrupt):
            trained(Path("scratch/killed"), Live("train_teacher"))
    assert len(steps("train_teacher", "loss")) < len(whole)
    assert trained(Path("scratch/killed"), Live("train_teacher")) == expected
    assert steps("train_teacher", "loss") == whole


def test_fine_tuning_is_the_same_with_curves_killed_or_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tuned(name: str, live: Live | None) -> tuple[str, list]:
        scratch = Path("scratch") / name
        scratch.mkdir(parents=True, exist_ok=True)
        params = recipe()
        found = finetune(backbone(params), Shop(), walks(), params, 0, scratch, torch.device("cpu"), 0, live)
        return digest(found.mirm.model), found.losses

    expected = tuned("quiet", None)
    assert tuned("live", Live("finetune_mirm")) == expected
    kinds = {loss.kind for loss in expected[1]}
    told = {kind: rows("finetune_mirm", f"loss/{kind}") for kind in kinds}
    assert told == {kind: [(at.step, at.value) for at in expected[1] if at.kind == kind] for kind in kinds}
    assert steps("finetune_mirm", "learning_rate") == list(range(1, 13))
    with monkeypatch.context() as patch:
        dies(patch, tuning.Progress, "on_step_end", calls=8)
        with pytest.raises(KeyboardInterrupt):
            tuned("killed", Live("finetune_mirm"))
    assert tuned("killed", Live("finetune_mirm")) == expected
    assert {kind: rows("finetune_mirm", f"loss/{kind}") for kind in kinds} == told
