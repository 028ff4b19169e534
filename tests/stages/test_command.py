"""What `running` makes of a training that does not fit into memory, and what a scratch is keyed by; locks and launchers
are test_launch.py's."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import MolarError
from pipeline.params import load_params
from pipeline.params.sharing import marked
from pipeline.progress import console
from stages import finetune_mirm, train_dueg, train_teacher
from stages.command import LOWER, running, stage_key
from tests.catalog.shop import refusal
from tests.conftest import ROOT

TRAININGS = {"train_teacher": train_teacher, "finetune_mirm": finetune_mirm, "train_dueg": train_dueg}
ParamsFile = Callable[[dict[str, Any]], Path]


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


@pytest.fixture
def clone(params_file: ParamsFile, monkeypatch: pytest.MonkeyPatch) -> ParamsFile:
    """A working directory that nothing has run in; its return value changes params.yaml."""
    monkeypatch.delenv("MOLAR_SCRATCH", raising=False)
    params_file({"runtime": {"processes": 1}})
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text("utf-8"), "utf-8")
    for room in ("pipeline", "stages"):
        Path(room).symlink_to(ROOT / room)
    return params_file


def catalogue() -> None:
    """As much of one as a key needs."""
    for name in ("items/part.parquet", "sequences.parquet"):
        Path("data/catalog", name).parent.mkdir(parents=True, exist_ok=True)
        Path("data/catalog", name).write_text(name)


@pytest.mark.parametrize("stage", LOWER)
def test_a_training_without_its_inputs_says_what_to_run_and_drops_no_checkpoint(stage: str, clone: ParamsFile) -> None:
    checkpoint = Path(".molar", stage, "earlier/checkpoint")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    with console.capture() as capture, pytest.raises(SystemExit) as ended:
        TRAININGS[stage].main()
    first = "sequences.parquet" if stage == "train_teacher" else "items"
    told = f"error: data/catalog/{first}, which {stage} reads, is missing: run `dvc repro ingest`\n"
    assert (ended.value.code, capture.get()) == (1, told)
    assert checkpoint.exists()


def test_of_several_inputs_the_absent_one_is_named_and_code_is_restored(clone: ParamsFile) -> None:
    catalogue()
    told = refusal(lambda: stage_key("train_dueg"))
    assert told == "data/embeddings, which train_dueg reads, is missing: run `dvc repro embed_items`"
    Path("stages").unlink()
    told = refusal(lambda: stage_key("finetune_mirm"))
    assert told.endswith("is missing: restore it, as `git restore stages/finetune_mirm.py` does")


def test_an_absent_input_is_named_also_where_an_out_is_not_pushed(clone: ParamsFile) -> None:
    """As `molar preset --write` marks it: the out is then a mapping."""
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").unlink()  # a link to the project's
    Path("dvc.yaml").write_text(marked(text, "data/catalog", "dvc.yaml"))
    told = refusal(lambda: stage_key("train_dueg"))
    assert told.startswith("data/catalog/") and told.endswith("is missing: run `dvc repro ingest`")


def test_a_local_backbone_is_keyed_by_its_content(clone: ParamsFile) -> None:
    """So that adapters of a killed run never go on over another base; a file that was only touched changes nothing."""
    catalogue()
    clone({"finetune_mirm": {"backbone": "local"}})
    Path("local").mkdir()
    weights = Path("local/model.safetensors")
    weights.write_bytes(b"one")
    first = stage_key("finetune_mirm")
    weights.write_bytes(b"two")
    second = stage_key("finetune_mirm")
    assert second != first
    weights.write_bytes(b"one")
    assert stage_key("finetune_mirm") == first
    Path("local/config.json").touch()
    assert stage_key("finetune_mirm") not in (first, second)


def test_the_tiny_backbone_is_no_folder_whatever_lies_there(clone: ParamsFile) -> None:
    catalogue()
    before = stage_key("finetune_mirm")
    Path("tiny").mkdir()
    Path("tiny/config.json").touch()
    assert stage_key("finetune_mirm") == before
