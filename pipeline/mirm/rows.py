"""How many rows a batch of embedding has, and what follows where memory does not hold them.

Rows may decide a vector's last bits (pipeline/mirm/embed.py), so they are a function of the length and `batch_tokens`
alone, and they are never fewer for one batch only: a batch that does not fit gives another `batch_tokens` for all.

The exception is the last batch of a shape, on a CPU, whose kernels round alike for any four rows or more: it is filled
up with copies to a multiple of four. On a GPU, which picks kernels by the number of rows, it is filled up to the end.
"""

from __future__ import annotations

import torch

from pipeline.errors import MolarError

ROWS = 32  # a batch; more are hardly faster, and the last batch of a shape has to be filled up
FILLED = 4  # rows; two were enough for the same bits in all that was tried, widths of 96 to 1,536, one not
NO_MEMORY = "DefaultCPUAllocator: can't allocate memory"


class DoesNotFitError(MolarError):
    """A batch that memory did not hold."""

    def __init__(self, rows: int, length: int, item_id: str) -> None:
        self.rows, self.length = rows, length
        if rows == 1:
            what, lower = f"item {item_id!r} alone", "finetune_mirm.image_pixels or finetune_mirm.max_text_tokens"
        else:
            what, lower = f"a batch of {rows} rows", "embed_items.batch_tokens"
        super().__init__(
            f"embed_items: {what}, padded to {length} tokens, does not fit into memory: lower {lower}, or set "
            "embed_items.precision to bfloat16 if it is float32"
        )


def rows_of(length: int, batch_tokens: int) -> int:
    """Of every batch of that length."""
    return max(1, min(ROWS, batch_tokens // length))


def filled_rows(count: int, length: int, batch_tokens: int, device: torch.device) -> int:
    """Rows of a batch of `count` items, copies included."""
    rows = rows_of(length, batch_tokens)
    return min(rows, -(-count // FILLED) * FILLED) if device.type == "cpu" else rows


def fewer_tokens(failed: DoesNotFitError, batch_tokens: int) -> int:
    """`batch_tokens` halved until it halves the rows of the failed batch.

    Halves of halves, whichever batch it was, so that runs which fail at different ones still share a cache.
    Raises `failed` where there was one row.
    """
    if failed.rows == 1:
        raise failed
    while rows_of(failed.length, batch_tokens) > failed.rows // 2:
        batch_tokens //= 2
    return batch_tokens


def is_out_of_memory(error: RuntimeError) -> bool:
    """Of a GPU or of this machine."""
    return isinstance(error, torch.OutOfMemoryError) or NO_MEMORY in str(error)
