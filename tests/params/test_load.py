"""A mistake in params.yaml is one line that names the key, the value and what is allowed, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import MolarError
from pipeline.params import load_params, load_runtime

from ..conftest import ROOT

Write = Callable[[dict[str, Any]], Path]


def refusal(path: Path = Path("params.yaml")) -> str:
    with pytest.raises(MolarError) as error:
        load_params(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_file_in_the_repository_is_valid() -> None:
    assert load_params(ROOT / "params.yaml").seed == 0


def test_a_float_may_be_written_1e_3_or_as_a_whole_number(params_file: Write) -> None:
    path = params_file({"train_dueg": {"alignment": {"weight": "here", "temperature": "there"}}})
    path.write_text(path.read_text().replace("weight: here", "weight: 1e-3").replace("there", "1"))
    alignment = load_params(path).train_dueg.alignment
    assert (alignment.weight, alignment.temperature) == (0.001, 1.0)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    (  # unknown keys
        {"train_dueg": {"alignment": {"wieght": 1.0}}},
        "unknown key train_dueg.alignment.wieght (allowed: weight, weight_warmup, kind, "
        "teacher, temperature, positions, queue, subspace, scored_items)",
    ),
    (
        {"protokol": {}},
        "unknown key protokol (allowed: seed, protocol, demo, ingest, train_teacher, finetune_mirm, embed_items, "
        "train_dueg, build_index, evaluate, runtime)",
    ),
    # wrong types: no coercion, so that params.yaml says what runs
    ({"train_teacher": {"sasrec": {"dim": "64"}}}, "train_teacher.sasrec.dim = '64': should be a valid integer"),
    ({"train_teacher": {"sasrec": {"dim": True}}}, "train_teacher.sasrec.dim = true: should be a valid integer"),
    ({"train_teacher": {"sasrec": {"dim": 64.5}}}, "train_teacher.sasrec.dim = 64.5: should be a valid integer"),
    ({"ingest": {"k_core": None}}, "ingest.k_core = null: should be a valid integer"),
    ({"evaluate": {"cutoffs": [10, "x"]}}, "evaluate.cutoffs.1 = 'x': should be a valid integer"),
    ({"protocol": {"mask_seen": "no"}}, "protocol.mask_seen = 'no': should be a valid boolean"),
    ({"protocol": 3}, "protocol = 3: should hold the keys max_history, mask_seen"),
    # out of range
    ({"seed": -1}, "seed = -1: should be greater than or equal to 0"),
    ({"train_teacher": {"sasrec": {"dropout": 1.5}}}, "train_teacher.sasrec.dropout = 1.5: should be less than 1"),
    (
        {"ingest": {"source": "netflix"}},
        "ingest.source = 'netflix': should be 'auto', 'tables', 'movielens', 'recbole', 'amazon' or 'pixelrec'",
    ),
    (
        {"finetune_mirm": {"learning_rate": float("nan")}},
        "finetune_mirm.learning_rate = nan: should be a finite number",
    ),
    # several at once, still one line
    (
        {"build_index": {"serve": "both"}},
        "build_index.serve = 'both': should be 'dueg' or 'sum'",
    ),
    (
        {"build_index": {"sum_weights": [0.5, 1.5]}},
        "build_index.sum_weights.1 = 1.5: should be less than or equal to 1",
    ),
    (
        {"seed": -1, "build_index": {"kind": "flt"}},
        "seed = -1: should be greater than or equal to 0; build_index.kind = 'flt': should be 'flat', 'ivf' or 'hnsw'",
    ),
    # combinations that no run can honour
    (
        {"train_teacher": {"sasrec": {"dim": 64, "heads": 3}}},
        "train_teacher.sasrec.dim = 64 is no multiple of train_teacher.sasrec.heads = 3",
    ),
    (
        {"finetune_mirm": {"tuning": "full", "tasks": {"image_text": 0, "attributes": 0, "behaviour": 0}}},
        "finetune_mirm.tuning = 'full' needs at least one of finetune_mirm.tasks above 0",
    ),
    (
        {"finetune_mirm": {"tuning": "full", "modality": "text", "tasks": {"attributes": 0, "behaviour": 0}}},
        "finetune_mirm.modality = 'text' has no pictures: finetune_mirm.tasks needs attributes or behaviour above 0",
    ),
    (
        {"finetune_mirm": {"modality": "text"}, "embed_items": {"modality": "text+image"}},
        "embed_items.modality = 'text+image' was never shown to a MIRM fine-tuned with finetune_mirm.modality = 'text'"
        ": choose text",
    ),
    (
        {"train_dueg": {"model": "gru4rec", "second_token": "teacher"}},
        "train_dueg.second_token = 'teacher' needs train_dueg.model = 'llm', not 'gru4rec'",
    ),
    (
        {"train_dueg": {"alignment": {"teacher": "sum"}}},
        "train_dueg.alignment.teacher = 'sum' has scores and no user vector: needs train_dueg.alignment.kind = "
        "'scores', not 'infonce'",
    ),
    (
        {"protocol": {"max_history": 50}, "train_dueg": {"training": {"overlap": 50}}},
        "train_dueg.training.overlap = 50 leaves a window nothing to ask: should be below protocol.max_history = 50",
    ),
    (
        {"train_dueg": {"items": "id", "joint": {"epochs": 2}}},
        "train_dueg.joint.epochs = 2 trains the MIRM together with the DUEG, which does not read it: "
        "train_dueg.items = 'id'",
    ),
    (
        {"train_dueg": {"joint": {"epochs": 1}}, "embed_items": {"encoder": "text", "text_encoder": {"model": "a/b"}}},
        "train_dueg.joint.epochs = 1 trains the MIRM together with the DUEG, which does not read it: "
        "embed_items.encoder = 'text'",
    ),
    (
        {"train_teacher": {"model": "llm"}},
        "train_teacher.model = 'llm': should be 'sasrec', 'gru4rec', 'fpmc' or 'duorec'",
    ),
    ({"embed_items": {"encoder": "text"}}, "embed_items.encoder = 'text' needs embed_items.text_encoder.model"),
    (
        {"embed_items": {"encoder": "text+image", "text_encoder": {"model": "a/b"}}},
        "embed_items.encoder = 'text+image' needs embed_items.image_encoder.model",
    ),
    (
        {"finetune_mirm": {"tiny": {"hidden": 96, "heads": 4, "kv_heads": 3}}},
        "finetune_mirm.tiny: hidden must be a multiple of heads, and heads of kv_heads",
    ),
    (
        {"ingest": {"since": 20, "before": 20}},
        "ingest.since = 20 is not below ingest.before = 20: no interaction lies between",
    ),
    (
        {"ingest": {"valid_share": 0.6, "test_share": 0.4}},
        "ingest.valid_share = 0.6 and ingest.test_share = 0.4 leave nothing to train on: their sum must be below 1",
    ),
    ({"ingest": {"since": 1.5}}, "ingest.since = 1.5: should be a valid integer"),
    ({"ingest": {"max_history": 0}}, "ingest.max_history = 0: should be greater than or equal to 1"),
    ({"ingest": {"cold_share": 1.0}}, "ingest.cold_share = 1.0: should be less than 1"),
    ({"ingest": {"test_share": 0.0}}, "ingest.test_share = 0.0: should be greater than 0"),
    ({"ingest": {"split": "random"}}, "ingest.split = 'random': should be 'leave_one_out' or 'global_time'"),
    ({"demo": {"cold_items": 800, "items": 800}}, "demo.cold_items = 800 leaves no warm item of demo.items = 800"),
    ({"demo": {"mean_events": 70, "max_events": 60}}, "demo: min_events <= mean_events <= max_events does not hold"),
    ({"evaluate": {"cutoffs": [20, 10]}}, "evaluate.cutoffs = [20, 10]: should be ascending, distinct and at least 1"),
    ({"evaluate": {"cutoffs": [10]}}, "evaluate.cutoffs = [10]: 10 (the headline) and 20 must be among them"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_mistake_is_one_line(params_file: Write, changes: dict[str, Any], message: str) -> None:
    assert refusal(params_file(changes)) == f"params.yaml: {message}"


def test_a_missing_key_is_named(params_file: Write) -> None:
    path = params_file({})
    path.write_text(path.read_text().replace("kind: flat", "", 1))
    assert refusal(path) == "params.yaml: build_index.kind is missing"


FILES = {
    "": "params.yaml: the file = null: should hold the keys seed, protocol, demo, ingest, train_teacher, "
    "finetune_mirm, embed_items, train_dueg, build_index, evaluate, runtime",
    "seed: \x01\n": "params.yaml is not valid YAML: unacceptable character #x0001: special characters are not allowed",
    "seed: [": "params.yaml is not valid YAML in line 1: expected the node content, but found '<stream end>'",
    "seed: 1\nseed: 2\n": 'params.yaml is not valid YAML in line 2: found duplicate key "seed" with value "2" '
    '(original value: "1")',
}


@pytest.mark.parametrize("text", FILES, ids=["empty", "control character", "broken", "duplicate"])
def test_a_broken_file_is_one_line(params_file: Write, text: str) -> None:
    Path("params.yaml").write_text(text)
    assert refusal() == FILES[text]


def test_no_file(params_file: Write) -> None:
    assert refusal() == "params.yaml not found: run from the project's root"


def test_the_environment_overrides_the_runtime_alone(params_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = params_file({"runtime": {"device": "auto", "threads": 0, "workers": 1}})
    monkeypatch.setenv("MOLAR_DEVICE", "cpu")
    monkeypatch.setenv("MOLAR_THREADS", "3")
    runtime = load_runtime(path)
    assert (runtime.device, runtime.threads, runtime.workers) == ("cpu", 3, 1)
    monkeypatch.setenv("MOLAR_THREADS", "many")
    with pytest.raises(MolarError) as error:
        load_runtime(path)
    assert str(error.value) == "environment (MOLAR_<KEY>): threads = 'many': should be a valid integer"
