"""torch.compile of a MIRM's text decoder, for embedding jobs that take hours.

Compiled for each shape of a batch on its own (there are few, see pipeline/mirm/embed.py), a shape is tens of seconds of
compilation. In a throw-away run on a CPU with a tiny Qwen2-VL bfloat16 gained much, float32 nothing. The vision tower
stays as it is: its sizes are read from tensors, which compiling whole models trips over.

Promise: no shape is left uncompiled unseen, as PyTorch leaves them after eight: bits would depend on which came first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from pipeline.errors import MolarError
from pipeline.mirm.folder import Mirm

BACKEND = "inductor"
SHAPES = 1024  # more than any catalogue has
OFF = "or set embed_items.compile to false"


@contextmanager
def compiled_decoder(mirm: Mirm, device: torch.device, backend: str = BACKEND) -> Iterator[None]:
    """The decoder of `mirm`, compiled when it first meets a shape, within the block.

    Raises MolarError: no compiler on this machine, or a decoder that does not compile.
    """
    _find_compiler(device)
    decoder = mirm.model.get_decoder()
    decoder.compile(backend=backend, dynamic=False)
    try:
        with torch._dynamo.config.patch(
            recompile_limit=SHAPES, accumulated_recompile_limit=SHAPES, fail_on_recompile_limit_hit=True
        ):
            yield
    except (TorchDynamoException, FailOnRecompileLimitHit) as error:
        why = " ".join(str(error).split())[:200]
        raise MolarError(f"embed_items.compile: the decoder does not compile here ({why}): see to it, {OFF}") from None
    finally:
        decoder._compiled_call_impl = None  # what `compile` set: uncompiled again


def _find_compiler(device: torch.device) -> None:
    """Inductor asks for the C++ compiler on a CPU, Triton for a C compiler on a GPU, when a batch is half done."""
    variable, usual = ("CC", ("gcc", "clang")) if device.type == "cuda" else ("CXX", ("g++", "clang++"))
    names = [os.environ[variable]] if variable in os.environ else list(usual)
    if not any(shutil.which(name) for name in names):
        raise MolarError(
            f"embed_items.compile: no compiler is found here ({' or '.join(names)}): install one and name it in "
            f"{variable}, {OFF}"
        )
