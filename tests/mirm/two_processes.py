"""What tests/mirm/test_processes.py starts with torchrun: runs of fine-tuning in two processes, their weights in files.

python -m torch.distributed.run --nproc-per-node 2 -m tests.mirm.two_processes OUT [fsdp]
"""

import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from pipeline import processes
from pipeline.errors import MolarError
from pipeline.mirm import engine, sharded
from pipeline.mirm import finetune as tuning
from pipeline.mirm.losses import write_losses
from pipeline.mirm.objectives import Losses
from tests.mirm.shop import Shop, backbone, recipe, walks
from tests.mirm.test_embed import CPU, mixed_shop, run

KINDS = ("image_text", "attributes", "behaviour")
CONTRAST = {kind: {"answer": 0.0, "contrast": 1.0} for kind in KINDS}
BOTH = {kind: {"answer": 1.0, "contrast": 0.5} for kind in KINDS}
DRY = {"rank": 2, "alpha": 4, "dropout": 0.0}

# Each meets another difficulty. 64 tokens at once: another number of parts on each process, and parts of words alone
# beside others with pictures. Five rows: unlike shares.
PLAIN = {"steps": 6, "learning_rate": 0.05, "clip_norm": 1e6}
CASES = {
    "answers": PLAIN | {"batch_size": 5, "batch_tokens": 64},
    "contrast": PLAIN | {"batch_size": 5, "batch_tokens": 64, "objectives": CONTRAST, "tasks": {"modalities": 40}},
    "lora": PLAIN | {"batch_size": 4, "tuning": "lora", "lora": DRY, "objectives": BOTH, "held_out": 0.25},
    "one row": PLAIN | {"batch_size": 1, "steps": 2},
    "adam": {"steps": 6, "batch_size": 6, "objectives": BOTH, "tasks": {"modalities": 30}},
}
DROPPING = {"steps": 6, "tuning": "lora", "objectives": BOTH, "batch_size": 5}


def descent(model, params):
    """Plain gradient descent, in which a gradient of another size shows; Adam and clipping would hide it."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=params.learning_rate)


def run_case(name: str, scratch: Path, out: Path) -> None:
    adam = engine._optimizer
    engine._optimizer = adam if name == "adam" else descent
    tune(scratch, CASES[name], out)
    engine._optimizer = adam


def tune(scratch: Path, changes: dict, out: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    params = recipe(**changes)
    processes.meet()
    tuned = tuning.finetune(backbone(params), Shop(), walks(), params, 0, scratch, CPU, workers=0)
    if processes.is_first():
        out.mkdir(parents=True)
        save_file({k: v.contiguous().clone() for k, v in tuned.mirm.model.state_dict().items()}, out / "weights")
        write_losses(out / "losses.tsv", tuned.losses)
        (out / "held_out").write_text(repr([(row.kind, row.examples) for row in tuned.held_out]))


def interrupted(scratch: Path, changes: dict) -> None:
    """Until step 3; the last checkpoint is of step 2."""
    undisturbed, often = engine.Progress.on_step_end, tuning.CHECKPOINTS

    def on_step_end(self, args, state, control, **rest):
        undisturbed(self, args, state, control, **rest)
        if state.global_step == 3:
            raise KeyboardInterrupt

    engine.Progress.on_step_end, tuning.CHECKPOINTS = on_step_end, 3
    try:
        tune(scratch, changes, scratch / "never")
    except KeyboardInterrupt:
        engine.Progress.on_step_end, tuning.CHECKPOINTS = undisturbed, often


def diverged(scratch: Path) -> str:
    """The loss is not a number on the second process alone."""
    forward = Losses.forward

    def broken(self, *given):
        return forward(self, *given) * (float("nan") if processes.rank() == 1 else 1.0)

    Losses.forward = broken
    try:
        tune(scratch, {}, scratch / "never")
    except MolarError as error:
        return str(error)
    finally:
        Losses.forward = forward
    return "it went on"


def embed(out: Path) -> None:
    """Every item of the shop twice, the second time from the cache, and one item that is new."""
    os.environ["MOLAR_CACHE"] = str(out / "cache")
    found = []
    for title in (None, None, "chair number 99"):
        shop = mixed_shop()
        shop.titles[0] = title or shop.titles[0]
        embedded = run(shop)
        found.append((embedded.encoded, embedded.from_cache))
        if processes.is_first() and title is None:
            save_file({"vectors": torch.from_numpy(embedded.embeddings_ND)}, out / "vectors")
        processes.meet()
    (out / f"counts-{processes.rank()}").write_text(repr(found))


def shard_on_a_cpu() -> None:
    """FSDP2 between CPUs: torch can, accelerate keeps it to GPUs, so it is told that these are some."""
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "ACCELERATE_TORCH_DEVICE": "cpu",
        "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    PartialState._prepare_backend = lambda self, *_: ("gloo", DistributedType.MULTI_GPU)
    whole = sharded.whole

    def seen_whole(model, apart, trainer):
        assert all(isinstance(parameter, DTensor) for parameter in trainer.model.parameters())
        return whole(model, apart, trainer)

    sharded.whole = seen_whole


def main(out: Path, how: str = "ddp") -> None:
    backbone()  # each has a folder of its own, written before transformers leaves writing to the first
    processes.join(cpu=True)
    if how == "fsdp":
        shard_on_a_cpu()
    else:
        embed(out)
    for name in CASES:
        run_case(name, out / "scratch" / name, out / name)
    tune(out / "scratch" / "quiet", DROPPING, out / "undisturbed")
    interrupted(out / "scratch" / "disturbed", DROPPING)
    tune(out / "scratch" / "disturbed", DROPPING, out / "resumed")
    (out / f"diverged-{processes.rank()}").write_text(diverged(out / "scratch" / "diverged"))
    processes.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
