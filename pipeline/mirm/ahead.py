"""Pictures prepared ahead of the model, by other processes, while it computes.

Promise: the same pictures in the same order whatever `workers` is, and no more of them in memory than a few calls of
the processor for each process. They are processes because the processor holds Python's lock for most of its time: in
throw-away timings two threads prepared no more than one at 56 and 112 pixels a side, only at 224 did they gain, and at
every size they held up the thread that feeds a GPU. On a CPU whose every core the model already uses there is little
to win.

PyTorch's DataLoader runs them: forked, so that they need no copy of the catalogue; one thread each, no GPU; they end
when their work or this process does. They hand pictures over in shared memory (/dev/shm), CALL_BYTES at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pipeline.errors import MolarError
from pipeline.mirm.pictures import TOGETHER, Call, Pictures

CALL_BYTES = 16 * 2**20  # of one call's tensors; containers have 64 MiB of shared memory unless told otherwise
AHEAD = 2  # calls for each process
ADVICE = "give this machine or container more (docker run --shm-size), or lower runtime.workers (MOLAR_WORKERS=0: none)"


def ahead(pictures: Pictures, items: Sequence[int], workers: int) -> Iterator[int]:
    """The items in order, each once its picture is in `pictures`; `workers` processes prepare the next ones.

    Raises MolarError: a picture that cannot be decoded. Close the iterator when leaving it early.
    """
    if not items:
        return
    together = max(1, min(TOGETHER, CALL_BYTES // max(1, pictures[items[0]].size)))
    chunks = [items[start : start + together] for start in range(0, len(items), together)]
    processes = min(workers, len(chunks) - 1)  # nothing to overlap with a single chunk
    loader = DataLoader(
        Calls(pictures, chunks),
        batch_size=None,  # a chunk is already a batch
        collate_fn=_as_it_is,
        num_workers=processes,
        prefetch_factor=AHEAD if processes else None,
        multiprocessing_context="fork" if processes else None,
        generator=torch.Generator(),  # it draws a seed, which must not move the global one
    )
    for chunk, made in zip(chunks, loader, strict=True):
        if isinstance(made, str):
            raise MolarError(made)
        pictures.keep(chunk, made)
        yield from chunk


class Calls(Dataset):
    """One element a call of the processor, or a text that says why there is none.

    An error raised in another process would arrive with a traceback in its text; one of shared memory, raised only
    when the element is sent, would not arrive at all, and this process would wait for ever.
    """

    def __init__(self, pictures: Pictures, chunks: Sequence[Sequence[int]]) -> None:
        self._pictures, self._chunks = pictures, chunks

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, number: int) -> Call | str:
        try:
            call = self._pictures.made(self._chunks[number])
        except MolarError as error:
            return str(error)
        return to_shared_memory(call.tensors.values()) or call


def to_shared_memory(tensors: Iterable[Tensor]) -> str | None:
    """In a worker, put what it is about to hand over into shared memory; why that cannot be, if it cannot."""
    if get_worker_info() is not None:
        try:
            for tensor in tensors:
                tensor.share_memory_()
        except RuntimeError as error:
            return f"no shared memory for prepared pictures ({str(error).splitlines()[0]}): {ADVICE}"
    return None


def _as_it_is(call: Any) -> Any:
    return call


@contextmanager
def one_line_if_a_worker_dies() -> Iterator[None]:
    """A dead worker is noticed by a signal, hence anywhere in the loop that uses `ahead`: put this around it.

    Raises MolarError.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MolarError(
            f"a process that prepares pictures has ended ({str(error).splitlines()[0]}), most often for lack of "
            f"memory: {ADVICE}"
        ) from None
