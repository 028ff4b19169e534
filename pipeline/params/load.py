"""Read params.yaml, whole, before any work: every mistake in it is one line that names key, value and what is allowed.

The parser is the YAML 1.2 one that DVC itself uses, so `1e-3` is a number for both of us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import MolarError
from pipeline.params.build_index import BuildIndex
from pipeline.params.demo import Demo
from pipeline.params.document import no_yaml, text_in
from pipeline.params.embed_items import EmbedItems
from pipeline.params.evaluate import Evaluate
from pipeline.params.finetune_mirm import FinetuneMirm
from pipeline.params.ingest import Ingest
from pipeline.params.protocol import Protocol
from pipeline.params.runtime import Runtime
from pipeline.params.section import Section
from pipeline.params.train_dueg import TrainDueg
from pipeline.params.train_teacher import TrainTeacher

PARAMS_FILE = Path("params.yaml")
S = TypeVar("S", bound=Section)


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0)
    protocol: Protocol
    demo: Demo
    ingest: Ingest
    train_teacher: TrainTeacher
    finetune_mirm: FinetuneMirm
    embed_items: EmbedItems
    train_dueg: TrainDueg
    build_index: BuildIndex
    evaluate: Evaluate
    runtime: Runtime


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The validated file. Raises MolarError: no file, no YAML, unknown key, wrong type, impossible combination."""
    try:
        return check(parsed(text_in(path), str(path)), str(path))
    except FileNotFoundError:
        raise MolarError(f"{path} not found: run from the project's root") from None


def check(values: Any, where: str) -> Params:
    """`values` as params, if they are a whole and possible set; MolarError opens with `where` they came from."""
    params = validated(Params, values, where)
    problem = _impossible(params)
    if problem:
        raise MolarError(f"{where}: {problem}")
    return params


def load_runtime(path: Path = PARAMS_FILE) -> Runtime:
    """The `runtime` section with the environment's overrides (MOLAR_DEVICE, MOLAR_THREADS, ...)."""
    runtime = load_params(path).runtime
    overrides: dict[str, Any] = {}
    for name in Runtime.model_fields:
        text = os.environ.get(f"MOLAR_{name.upper()}")
        if text is not None:
            overrides[name] = int(text) if text.isdigit() else text
    return validated(Runtime, runtime.model_dump() | overrides, "environment (MOLAR_<KEY>)") if overrides else runtime


def parsed(text: str, where: str) -> Any:
    """Plain values of a YAML text. Raises MolarError, which opens with `where` the text came from, if it is no YAML."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise no_yaml(error, where) from None


def validated(model: type[S], value: Any, where: str) -> S:
    """`value` as a strict model. Raises MolarError: `where`, then every mistake with key, value and what is allowed."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_line(detail, model) for detail in error.errors()]
        raise MolarError(f"{where}: " + "; ".join(lines)) from None


def _line(detail: ErrorDetails, model: type[Section]) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "the file"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key} (allowed: {', '.join(_fields_at(model, detail['loc'][:-1]))})"
    if detail["type"] == "missing":
        return f"{key} is missing"
    if detail["type"] == "model_type":
        return f"{key} = {_shown(detail['input'])}: should hold the keys {', '.join(_fields_at(model, detail['loc']))}"
    message = detail["msg"].removeprefix("Input should be ")
    return f"{key} = {_shown(detail['input'])}: should be {message}"


def _shown(value: Any) -> str:
    """A value in YAML's own words, cut where it is long."""
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _fields_at(model: type[Section], location: tuple[int | str, ...]) -> list[str]:
    found: Any = model
    for part in location:  # a key of a model, or any name that maps to one
        found = get_args(found)[1] if get_origin(found) is dict else found.model_fields[str(part)].annotation
    return list(found.model_fields)


def _impossible(params: Params) -> str | None:
    """The first combination of values that no run can honour, as a message; None if there is none."""
    mirm, dueg, world, data = params.finetune_mirm, params.train_dueg, params.demo, params.ingest
    if mirm.tuning != "none" and not mirm.tasks.image_text + mirm.tasks.attributes + mirm.tasks.behaviour:
        return "finetune_mirm.tuning = '" + mirm.tuning + "' needs at least one of finetune_mirm.tasks above 0"
    if mirm.modality == "text" and mirm.tuning != "none" and not mirm.tasks.attributes + mirm.tasks.behaviour:
        return (
            "finetune_mirm.modality = 'text' has no pictures: finetune_mirm.tasks needs attributes or behaviour above 0"
        )
    shown = list(dict.fromkeys((mirm.modality, *mirm.modality.split("+"))))
    embed = params.embed_items
    for part, model in (("text", embed.text_encoder.model), ("image", embed.image_encoder.model)):
        if part in embed.encoder and not model:
            return f"embed_items.encoder = '{embed.encoder}' needs embed_items.{part}_encoder.model"
    if embed.encoder == "mirm" and embed.modality not in shown:
        return (
            f"embed_items.modality = '{embed.modality}' was never shown to a MIRM fine-tuned with "
            f"finetune_mirm.modality = '{mirm.modality}': choose {' or '.join(shown)}"
        )
    for name, sasrec in (("train_teacher", params.train_teacher.sasrec), ("train_dueg", dueg.sasrec)):
        if sasrec.dim % sasrec.heads:
            return f"{name}.sasrec.dim = {sasrec.dim} is no multiple of {name}.sasrec.heads = {sasrec.heads}"
    for name, training in (("train_teacher", params.train_teacher.training), ("train_dueg", dueg.training)):
        if training.overlap >= params.protocol.max_history:
            return (
                f"{name}.training.overlap = {training.overlap} leaves a window nothing to ask: should be below "
                f"protocol.max_history = {params.protocol.max_history}"
            )
    if dueg.second_token == "teacher" and dueg.model != "llm":
        return f"train_dueg.second_token = 'teacher' needs train_dueg.model = 'llm', not '{dueg.model}'"
    if dueg.alignment.teacher == "sum" and dueg.alignment.kind != "scores":
        return (
            "train_dueg.alignment.teacher = 'sum' has scores and no user vector: needs train_dueg.alignment.kind = "
            f"'scores', not '{dueg.alignment.kind}'"
        )
    if dueg.joint.epochs and (dueg.items == "id" or embed.encoder != "mirm"):
        key, value = ("train_dueg.items", "id") if dueg.items == "id" else ("embed_items.encoder", embed.encoder)
        return (
            f"train_dueg.joint.epochs = {dueg.joint.epochs} trains the MIRM together with the DUEG, which does not "
            f"read it: {key} = '{value}'"
        )
    if mirm.tiny.hidden % mirm.tiny.heads or mirm.tiny.heads % mirm.tiny.kv_heads:
        return "finetune_mirm.tiny: hidden must be a multiple of heads, and heads of kv_heads"
    if data.since is not None and data.before is not None and data.since >= data.before:
        return f"ingest.since = {data.since} is not below ingest.before = {data.before}: no interaction lies between"
    if data.valid_share + data.test_share >= 1:
        return (
            f"ingest.valid_share = {data.valid_share:g} and ingest.test_share = {data.test_share:g} leave nothing "
            "to train on: their sum must be below 1"
        )
    if world.cold_items >= world.items:
        return f"demo.cold_items = {world.cold_items} leaves no warm item of demo.items = {world.items}"
    if not world.min_events <= world.mean_events <= world.max_events:
        return "demo: min_events <= mean_events <= max_events does not hold"
    if params.evaluate.cutoffs != sorted(set(params.evaluate.cutoffs)) or params.evaluate.cutoffs[0] < 1:
        return f"evaluate.cutoffs = {params.evaluate.cutoffs}: should be ascending, distinct and at least 1"
    if 10 not in params.evaluate.cutoffs or 20 not in params.evaluate.cutoffs:
        return f"evaluate.cutoffs = {params.evaluate.cutoffs}: 10 (the headline) and 20 must be among them"
    return None
