"""The decoder's last layer where only the embedding tokens are wanted: what follows its attention for them alone.

Attention needs keys and values of every token; the projection behind it and the feed-forward block work token by token,
and of the last layer's tokens one a row is read. In a decoder of two layers that spares a fifth of the whole pass, in
one of 28 a fiftieth. All six families' layers are built alike (`self_attn.o_proj`, `mlp`, each added to its input), so
two hooks on each do it: the token goes in by itself, and what comes out is added to every position of the row, where
all but its own are garbage that nobody reads.

    with embedding_tokens_alone(mirm.model.get_decoder(), last_B):
        hidden_BLD = ...                  # right at [b, last_B[b]]; elsewhere garbage

Promise: the bits of a row still depend on the shape of its batch alone (pipeline/mirm/embed.py). A kernel may round
otherwise for few rows than for many, so each token goes in as many times as the shortest text has tokens.

Shape suffixes: B rows, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

COPIES = 16  # of each token: as many as the shortest padded row has


@contextmanager
def embedding_tokens_alone(decoder: nn.Module, last_B: Tensor) -> Iterator[None]:
    """Within, the decoder's last layer finishes only position last_B (B,) int64 of each row."""
    if decoder._compiled_call_impl is not None:  # Dynamo would compile hooks anew for every batch: it goes whole
        yield
        return
    layers: Any = decoder.layers
    layer = layers[-1]
    rows_B = torch.arange(len(last_B), device=last_B.device)

    def gathered(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return inputs[0][rows_B, last_B][:, None].repeat(1, COPIES, 1)

    def first_copy(module: nn.Module, inputs: tuple[Tensor, ...], output_BCD: Tensor) -> Tensor:
        return output_BCD[:, :1]

    hooks, modules = [], [layer.mlp]
    if hasattr(layer, "self_attn"):  # a layer of Mllama's that looks at pictures has none
        modules.append(layer.self_attn.o_proj)
    for module in modules:
        hooks += [module.register_forward_pre_hook(gathered), module.register_forward_hook(first_copy)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
