"""Each check of params.yaml says ok, look or missing, and what is missing says what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.doctor import setup
from pipeline.doctor.setup import Finding
from tests.doctor.world import SIZE, params
from tests.mirm.shop import _built, recipe

DEMO = Path("data/raw/demo")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def raw_data(path: str) -> Finding:
    return setup.raw_data(params(ingest={"path": path}).ingest, DEMO)


def test_raw_data_are_counted() -> None:
    Path("raw/images").mkdir(parents=True)
    Path("raw/items.csv").write_text("x" * 1500)
    Path("raw/images/a.png").write_text("x" * 500)
    assert raw_data("raw") == Finding("ok", "data", "raw: 2.0 kB in 2 files, source tables")


def test_counting_stops_where_there_are_too_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("raw").mkdir()
    Path("raw/items.csv").touch()
    monkeypatch.setattr(setup, "LOOK_SECONDS", -1.0)
    assert raw_data("raw").text == "raw: at least 0 B in 0 files, source tables"


def test_the_demo_need_not_be_drawn_yet() -> None:
    assert raw_data("data/raw/demo").level == "ok"


def test_raw_data_that_are_nowhere_are_missing() -> None:
    expected = "ingest.path = 'data/raw/shop' holds no data: put it there or correct the path"
    assert raw_data("data/raw/shop") == Finding("missing", "data", expected)
    Path("data/raw/shop").mkdir(parents=True)
    assert raw_data("data/raw/shop") == Finding("missing", "data", expected)


def test_tracked_raw_data_are_to_be_pulled() -> None:
    Path("raw.dvc").touch()
    assert raw_data("raw") == Finding("missing", "data", "raw is tracked but not here: run `dvc pull raw.dvc`")


def test_the_tiny_backbone_is_always_there() -> None:
    finding, size = setup.backbone(recipe())
    assert finding.level == "ok" and finding.text.startswith("tiny: ") and size is not None


def test_a_local_checkpoint_is_ok_and_one_without_weights_is_missing() -> None:
    folder = _built(56 * 56)
    finding, size = setup.backbone(recipe(backbone=str(folder)))
    assert finding.level == "ok" and "(qwen2_vl): " in finding.text and size is not None
    Path("bare").mkdir()
    Path("bare/config.json").write_bytes((folder / "config.json").read_bytes())
    assert setup.backbone(recipe(backbone="bare")) == (
        Finding("missing", "backbone", "bare lacks model.safetensors: copy or download the whole checkpoint"),
        None,
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [('{"model_type": "llava"}', "unsupported family 'llava'"), (None, "holds no readable config.json")],
)
def test_a_folder_that_is_no_backbone_is_missing(config: str | None, words: str) -> None:
    Path("odd").mkdir()
    if config:
        Path("odd/config.json").write_text(config)
    finding, size = setup.backbone(recipe(backbone="odd"))
    assert finding.level == "missing" and words in finding.text and size is None


def test_a_config_that_does_not_add_up_leaves_the_size_unknown() -> None:
    Path("odd").mkdir()
    Path("odd/config.json").write_text('{"model_type": "qwen2_vl", "vision_config": 3}')
    Path("odd/model.safetensors").touch()
    finding, size = setup.backbone(recipe(backbone="odd"))
    assert finding.level == "look" and "size unknown (" in finding.text and size is None


def test_a_hub_id_needs_the_network_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(setup.model, "found", lambda name, revision: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    finding, _ = setup.backbone(recipe(backbone="org/model"))
    assert (finding.level, finding.text) == ("look", "org/model is no folder and not in the hub's cache: needs network")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert setup.backbone(recipe(backbone="org/model"))[0].level == "missing"


def test_a_gpu_that_is_asked_for_and_absent_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding, device = setup.device(params(runtime={"device": "cuda"}).runtime)
    assert finding.level == "missing" and "set it to auto or cpu" in finding.text and device is None
    assert setup.device(params().runtime)[0].text.startswith("cpu, ")


def test_an_idle_gpu_is_worth_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    finding, device = setup.device(params(runtime={"device": "cpu"}).runtime)
    assert finding.level == "look" and finding.text.endswith("the GPU stays idle") and device == CPU


def test_processes_need_a_gpu_each_and_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(device: torch.device, **runtime: object) -> list[tuple[str, str]]:
        return [(finding.level, finding.text) for finding in setup.shared_out(params(runtime=runtime).runtime, device)]

    assert found(CPU) == []
    assert found(CPU, processes=2) == [("ok", "2 for finetune_mirm and embed_items")]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    words = "2 for finetune_mirm and embed_items, one a GPU; torch sees 1"
    assert found(torch.device("cuda"), processes=2) == [("missing", words)]
    assert found(CPU, accelerate="nope.yaml") == [("missing", "runtime.accelerate = 'nope.yaml': no such file")]


def needed(**changes: object) -> str:
    text = setup.tuning(recipe(**changes), SIZE, CPU, 10**9).text
    return text.partition(": ")[2].partition(" and")[0]


def test_memory_counts_what_is_trained() -> None:
    assert needed(tuning="none") == "6.0 kB"  # 1,500 weights of four bytes
    assert needed(tuning="full") == "24 kB"  # and gradient and two moments each
    assert needed(tuning="full", train_vision=False) == "20 kB"  # 300 stay frozen
    assert needed(tuning="lora") == "24 kB"  # 1,120 adapters of rank 2 trained beside it


def test_what_does_not_fit_is_worth_a_look() -> None:
    assert setup.tuning(recipe(), SIZE, CPU, 24_000).level == "ok"
    finding = setup.tuning(recipe(), SIZE, CPU, 23_999)
    assert finding.level == "look" and "too large (try lora, or a smaller backbone)" in finding.text


def test_bfloat16_on_a_cpu_or_an_old_gpu_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup.tuning(recipe(precision="bfloat16"), SIZE, CPU, 10**9).text.endswith(
        "bfloat16 is slow on most CPUs, float32 is not"
    )
    for supported, level in ((False, "look"), (True, "ok")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=supported: answer)
        assert setup.tuning(recipe(precision="bfloat16"), SIZE, GPU, 10**9).level == level


def test_faiss_on_the_wrong_side_or_absent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace())
    assert setup.index("flat", CPU) == Finding("ok", "index", "flat, searched on cpu")
    assert setup.index("flat", GPU).level == "look"
    gpu = SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 1)
    monkeypatch.setitem(sys.modules, "faiss", gpu)
    assert setup.index("ivf", GPU) == Finding("ok", "index", "ivf, searched on cuda")
    monkeypatch.setitem(sys.modules, "faiss", None)
    finding = setup.index("flat", CPU)
    assert finding.level == "missing" and "pip install -e '.[cpu]'" in finding.text


def test_the_oracle_is_for_the_demo_alone() -> None:
    assert setup.oracle(params(), DEMO) == []
    assert [finding.level for finding in setup.oracle(params(ingest={"path": "raw"}), DEMO)] == ["look"]
    assert setup.oracle(params(ingest={"path": "raw"}, evaluate={"oracle": False}), DEMO) == []
