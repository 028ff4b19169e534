"""The stage `finetune_mirm`: what it writes, what it says, and how an interrupted run goes on."""

import hashlib
from pathlib import Path

import pytest

from pipeline import artifacts
from pipeline.mirm import finetune as tuning
from pipeline.progress import console
from stages import finetune_mirm
from stages.paths import MIRM
from tests.catalog.shop import ingest_params, write_shop
from tests.conftest import ROOT

TINY = {
    "hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "mlp": 32, "vocabulary": 300,
    "vision_dim": 16, "vision_layers": 1, "vision_heads": 2,
}  # fmt: skip
SMALL = {"steps": 6, "batch_size": 2, "warmup_steps": 2, "tiny": TINY}


@pytest.fixture
def project(params_file, monkeypatch):
    """A working directory with a small catalogue; call it with changes of params.yaml."""
    from pipeline.catalog.build import build

    def make(**changes):
        path = params_file({"finetune_mirm": SMALL | changes, "runtime": {"workers": 0}})
        if not Path("dvc.yaml").exists():
            monkeypatch.delenv("MOLAR_SCRATCH", raising=False)
            monkeypatch.delenv("MOLAR_CACHE", raising=False)
            Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text("utf-8"), "utf-8")
            for room in ("pipeline", "stages"):  # a stage's key digests its code
                Path(room).symlink_to(ROOT / room)
            with artifacts.write(Path("data/catalog")) as out:
                build(ingest_params(write_shop(Path("raw"))), out)
        return path

    return make


def said(stage) -> str:
    with console.capture() as capture:
        stage.main()
    return " ".join(capture.get().split())


def digests():
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(MIRM.iterdir())}


def test_a_preview_trains_nothing_and_writes_pictures_alone(project, capsys):
    project()
    before = {path for path in Path().rglob("*") if path.is_file()}
    finetune_mirm.main(preview=2)
    shown = capsys.readouterr().out
    assert shown.count("<|im_end|>") == 4, "two answers of each of two tasks"
    assert shown.count("<|item_emb|>") == 4 + 2 * (2 + 2 + 2), "and two pairs of each, and of modalities"
    made = {path for path in Path().rglob("*") if path.is_file()} - before
    assert made and all(path.parent == Path(".molar/preview") for path in made)
    assert all(f"[{path}]" in shown.replace("\n", " ") for path in made)


def test_writes_a_verified_folder_and_says_so(project):
    project()
    words = said(finetune_mirm)
    assert "finetune_mirm: tiny, 6 steps, " in words and words.endswith("-> data/mirm")
    artifact = artifacts.read(MIRM, "finetune_mirm")
    artifact.verified()
    assert {"config.json", "model.safetensors", "tokenizer.json", "molar.json", "losses.tsv"} <= set(artifact.names)
    assert not list(Path(".molar/finetune_mirm").iterdir())


def test_untuned_passes_the_backbone_through(project):
    project(tuning="none")
    assert "finetune_mirm: tiny, not tuned in " in said(finetune_mirm)
    first = digests()
    assert (MIRM / "losses.tsv").read_text() == "step\tkind\tloss\n"
    said(finetune_mirm)
    assert digests() == first


def test_interrupted_goes_on_to_the_same_digests(project, monkeypatch):
    project()
    said(finetune_mirm)
    expected = digests()
    undisturbed, monkeypatched = tuning.Progress.on_step_end, []

    def interrupt(self, args, state, control, **rest):
        undisturbed(self, args, state, control, **rest)
        if state.global_step == 4:
            monkeypatched.append(state.global_step)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, console.capture() as capture, pytest.raises(SystemExit) as error:
        patch.setattr(tuning.Progress, "on_step_end", interrupt)
        finetune_mirm.main()
    assert error.value.code == 130 and monkeypatched == [4]
    assert "interrupted: run the same command again to go on" in capture.get()
    assert list(Path(".molar/finetune_mirm").glob("*/checkpoint-3/complete"))
    said(finetune_mirm)
    assert digests() == expected


def test_an_unsupported_backbone_is_one_line(project):
    project(backbone="llava")
    Path("llava").mkdir()
    Path("llava/config.json").write_text('{"model_type": "llava"}')
    with console.capture() as capture, pytest.raises(SystemExit) as error:
        finetune_mirm.main()
    assert error.value.code == 1
    assert capture.get() == (
        "error: finetune_mirm.backbone: folder llava is of the unsupported family 'llava': choose one of qwen2_vl, "
        "qwen2_5_vl, qwen3_vl, internvl, deepseek_vl, mllama\n"
    )
    assert not MIRM.exists()


def test_a_saved_mirm_is_a_backbone_for_the_next(project):
    project()
    said(finetune_mirm)
    first = digests()
    MIRM.rename("earlier")
    project(backbone="earlier", tuning="none")
    said(finetune_mirm)
    assert digests()["model.safetensors"] == first["model.safetensors"]
