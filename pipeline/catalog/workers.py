"""Pictures encoded by several processes, in the order in which they are asked for.

The first half second is spent here: whoever has few or small pictures starts no process. After that each process has
a pipe and a thread that waits on it, and no more batches are under way than WAITING for each, so that memory does not
grow with the number of pictures. Results do not depend on how many processes there are, nor on which one did what.

Processes are spawned, never forked: Arrow's threads run here. They import no more than Pillow, leave Ctrl-C to this
process, and end when their pipe closes, be it that this process was killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from pipeline.catalog.places import Bounds, Encoded, Found, encoded
from pipeline.errors import MolarError

ALONE = 0.5  # seconds of encoding before there are other processes; about what it costs to start one
BATCH = 16  # pictures asked for at once: a tenth of a second of work beside which a round trip is nothing
WAITING = 6  # batches for each process: a slow picture holds up nobody for long

Worker = tuple[BaseProcess, Connection]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(batches: Iterator[list[Found]], bounds: Bounds, processes: int) -> Generator[list[Encoded]]:
    """The result of each batch, in order. Raises MolarError if a process dies.

    Close the iterator when leaving it early: no process is left then.
    """
    spent = 0.0
    for batch in batches:
        start = time.perf_counter()
        done = encoded(batch, bounds)
        spent += time.perf_counter() - start
        yield done
        if processes > 1 and spent >= ALONE:
            yield from _by_others(batches, bounds, processes)
            return


def _by_others(batches: Iterator[list[Found]], bounds: Bounds, processes: int) -> Generator[list[Encoded]]:
    workers: list[Worker] = []
    free: SimpleQueue[Worker] = SimpleQueue()
    threads = ThreadPoolExecutor(processes)  # as many as workers, hence each finds one free

    def asked(batch: list[Found]) -> list[Encoded]:
        worker = free.get()
        try:
            worker[1].send(batch)
            return worker[1].recv()
        except (EOFError, OSError):
            raise _died(worker[0], batch) from None
        finally:
            free.put(worker)

    try:
        for _ in range(processes):
            workers.append(_started(bounds))
            free.put(workers[-1])
        waiting: deque[Future[list[Encoded]]] = deque()
        for batch in batches:
            waiting.append(threads.submit(asked, batch))
            if len(waiting) >= WAITING * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for process, _ in workers:
            process.terminate()  # they hold nothing that could be lost, and the threads see their pipes close
        threads.shutdown(cancel_futures=True)
        for process, connection in workers:
            connection.close()
            process.join()


def _started(bounds: Bounds) -> Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, bounds), daemon=True)
    process.start()
    theirs.close()  # or a dead process would leave its pipe open
    return process, ours


def serve(connection: Connection, bounds: Bounds) -> None:
    """What a process does: answer batches until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            connection.send(encoded(connection.recv(), bounds))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _died(process: BaseProcess, batch: list[Found]) -> MolarError:
    process.join(timeout=5)
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    names = [place.name for place in batch if isinstance(place, tuple)]
    return MolarError(
        f"a process that packs pictures {how} at one of {len(names)} pictures, {names[0]!r} to {names[-1]!r}: "
        f"signal 9 is most often a lack of memory: lower runtime.threads (MOLAR_THREADS=1) or ingest.max_image_pixels"
    )
