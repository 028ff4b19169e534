"""params.yaml against what is there: each check is one finding, and what is missing says what to do.

`missing` is what a stage would stop at; `look` is what will be slow, large or surprising; the rest is `ok`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from pipeline.device import pick
from pipeline.doctor import model
from pipeline.doctor.model import Size
from pipeline.doctor.probe import FAILURES, number, reason, size
from pipeline.doctor.work import FLOAT, adapters
from pipeline.errors import MolarError
from pipeline.mirm.backbone import family_of
from pipeline.params import Params, Runtime
from pipeline.params.finetune_mirm import FinetuneMirm
from pipeline.params.ingest import Ingest

TRAINED_COPIES = 4  # float32 weight, gradient and AdamW's two moments
LOOK_SECONDS = 1.0  # spent on counting files

Level = Literal["ok", "look", "missing"]


@dataclass(frozen=True)
class Finding:
    level: Level
    about: str
    text: str


def raw_data(ingest: Ingest, demo: Path) -> Finding:
    """Is `ingest.path` there, and how large is it? The demo's folder need not be: a stage draws it."""
    path = Path(ingest.path)
    if path.is_dir() and any(path.iterdir()):
        count, files, whole = folder_size(path)
        least = "" if whole else "at least "
        return Finding("ok", "data", f"{path}: {least}{size(count)} in {files:,} files, source {ingest.source}")
    if path == demo:
        return Finding("ok", "data", f"{path}: not drawn yet, the stage `demo` does it")
    if path.with_name(f"{path.name}.dvc").is_file():
        return Finding("missing", "data", f"{path} is tracked but not here: run `dvc pull {path}.dvc`")
    return Finding(
        "missing",
        "data",
        f"ingest.path = '{path}' holds no data: put it there or correct the path",
    )


def folder_size(path: Path) -> tuple[int, int, bool]:
    """(bytes, files, all counted?): counting stops after LOOK_SECONDS."""
    count = files = 0
    until = time.monotonic() + LOOK_SECONDS
    for folder, _, names in os.walk(path):
        for name in names:
            if time.monotonic() > until:
                return count, files, False
            count, files = count + (Path(folder) / name).lstat().st_size, files + 1
    return count, files, True


def backbone(mirm: FinetuneMirm) -> tuple[Finding, Size | None]:
    """Is the backbone there, of a family that we open, with its weights? And its size, where it can be known."""
    name, folder = mirm.backbone, None
    if name != "tiny":
        try:
            folder = model.found(name, mirm.revision)
            if folder is None:
                return _not_cached(name), None
            family = family_of(folder)
            absent = model.absent_weights(folder)
        except MolarError as error:
            return Finding("missing", "backbone", str(error)), None
        if absent:
            more = f" and {len(absent) - 1} more files" if len(absent) > 1 else ""
            text = f"{folder} lacks {absent[0]}{more}: copy or download the whole checkpoint"
            return Finding("missing", "backbone", text), None
        name = f"{name} ({family})"
    try:
        measured = model.size_of(mirm, folder)
    except FAILURES as error:
        return Finding("look", "backbone", f"{name}: size unknown ({reason(error)})"), None
    text = f"{name}: {number(measured.total)} parameters, vision {number(measured.vision)}"
    return Finding("ok", "backbone", text), measured


def _not_cached(name: str) -> Finding:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        text = f"{name} is no folder, not in the hub's cache, and HF_HUB_OFFLINE is set: give a local folder"
        return Finding("missing", "backbone", text)
    return Finding("look", "backbone", f"{name} is no folder and not in the hub's cache: needs network")


def device(runtime: Runtime) -> tuple[Finding, torch.device | None]:
    """Where the models will run."""
    try:
        chosen = pick(runtime)
    except MolarError as error:
        return Finding("missing", "device", str(error)), None
    if chosen.type == "cuda":
        return Finding(
            "ok", "device", f"{torch.cuda.get_device_name(chosen)} (runtime.device = {runtime.device})"
        ), chosen
    threads = torch.get_num_threads()
    text = f"cpu, {threads} thread{'s' if threads > 1 else ''} (runtime.device = {runtime.device})"
    if torch.cuda.is_available():
        return Finding("look", "device", f"{text}: the GPU stays idle"), chosen
    return Finding("ok", "device", text), chosen


def shared_out(runtime: Runtime, chosen: torch.device | None) -> list[Finding]:
    """Can finetune_mirm and embed_items have the processes that are asked for?"""
    if runtime.accelerate is not None and not Path(runtime.accelerate).is_file():
        return [Finding("missing", "processes", f"runtime.accelerate = '{runtime.accelerate}': no such file")]
    if runtime.accelerate is not None and runtime.processes == 1:
        return [Finding("ok", "processes", f"as {runtime.accelerate} says, for finetune_mirm and embed_items")]
    if runtime.processes == 1 or chosen is None:
        return []
    text = f"{runtime.processes} for finetune_mirm and embed_items"
    if chosen.type == "cuda" and runtime.processes > torch.cuda.device_count():
        return [Finding("missing", "processes", f"{text}, one a GPU; torch sees {torch.cuda.device_count()}")]
    return [Finding("ok", "processes", text)]


def tuning(mirm: FinetuneMirm, measured: Size, chosen: torch.device, free: int) -> Finding:
    """Do weights, gradients and optimiser fit into the `free` bytes of the device, and does the precision suit it?"""
    needed = float(measured.total * FLOAT)
    if mirm.tuning == "full":
        trained = measured.total if mirm.train_vision else measured.total - measured.vision
        needed += trained * FLOAT * (TRAINED_COPIES - 1)
    elif mirm.tuning == "lora":
        needed += adapters(measured, mirm.lora.rank) * FLOAT * TRAINED_COPIES
    text = f"{mirm.tuning} in {mirm.precision}: {size(needed)} and activations; {chosen.type} has {size(free)}"
    if needed > free:
        return Finding("look", "tuning", f"{text}: too large (try lora, or a smaller backbone)")
    if mirm.precision == "bfloat16" and chosen.type == "cpu":
        return Finding("look", "tuning", f"{text}; bfloat16 is slow on most CPUs, float32 is not")
    if mirm.precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding("look", "tuning", f"{text}; this GPU only emulates bfloat16, float32 is faster")
    return Finding("ok", "tuning", text)


def index(kind: str, chosen: torch.device | None) -> Finding:
    """Is FAISS there, and on which side will it search?"""
    try:
        import faiss
    except ImportError:
        text = "FAISS is not installed: pip install -e '.[cpu]' (on a machine with a GPU: '.[gpu]')"
        return Finding("missing", "index", text)
    if chosen is None or chosen.type == "cpu":
        return Finding("ok", "index", f"{kind}, searched on cpu")
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        return Finding(
            "look", "index", f"{kind}, searched on cpu: this FAISS sees no GPU, pip install -e '.[gpu]' does"
        )
    return Finding("ok", "index", f"{kind}, searched on cuda")


def oracle(params: Params, demo: Path) -> list[Finding]:
    """Only the demo world has a truth to rank by; other data would stop the last stage."""
    if not params.evaluate.oracle or Path(params.ingest.path) == demo:
        return []
    return [Finding("look", "oracle", "evaluate.oracle must be false for data other than the demo's")]
