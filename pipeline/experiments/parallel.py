"""Rows at once, a thread and a clone for each device, every (stage, params, inputs) still computed once.

Who may compute what is settled stage by stage. A row goes from one stage that the run-cache lacks to the next, and
claims each by a digest of its params and of the contents that it reads; a row whose next stage another one has claimed
waits, and then finds it in the run-cache. Claims for whole rows, made before a row starts, would be simpler and one
`dvc repro` a row. But what a row will read is not known by then: two rows that fine-tune differently may end at equal
weights (none, say, or a modality that the data lacks), and both would embed them. A look at DVC for each stage that is
computed costs a second or two, next to minutes or hours.

So that no device waits where it could compute, a worker takes the first row that need not wait, and takes none until
there is one. A claim passes from one stage of a row to its next in one step: the row that leads stays ahead.

Claims live in this process alone. No other one computes here (run.py holds the lock), and after a kill there is none.
Checkpoints lie in a folder for each claim, not for each clone: after a kill another worker may get the stage.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Condition

from pipeline.errors import MolarError
from pipeline.experiments import records
from pipeline.experiments.board import Lane
from pipeline.experiments.clone import Clone
from pipeline.experiments.committed import Committed
from pipeline.experiments.forecast import RunCache, Work, forecast, pending
from pipeline.experiments.points import Point
from pipeline.experiments.row import Leg, compute

ABANDONED_DAYS = 14  # that nobody has written into checkpoints


class Claims:
    """The points that are left, and who computes which work; for several threads."""

    def __init__(self, todo: Sequence[Point], needs: Callable[[Point], Iterator[Work]]) -> None:
        self.stopped = False
        self._todo, self._needs = list(todo), needs
        self._held: dict[Lane, Work] = {}
        self._changed = Condition()

    def take(self, lane: Lane) -> Point | None:
        """The first point that need not wait, its first work claimed; None once no point is left."""
        with self._changed:
            self._release(lane)
            while self._todo and not self.stopped:
                for point in self._todo:
                    work = next(self._needs(point), None)
                    if work is None or self._claim(lane, work):
                        self._todo.remove(point)
                        return point
                self._changed.wait()
            return None

    def follow(self, lane: Lane, works: Callable[[], list[Work]]) -> list[Work]:
        """What `works` says is to be done, once the first of it is claimed and in place of what was claimed before.

        Raises MolarError: all has been stopped.
        """
        with self._changed:
            self._release(lane)
            while not self.stopped:
                found = works()
                if not found or self._claim(lane, found[0]):
                    lane.pause(waits=False)
                    return found
                lane.pause(waits=True)
                self._changed.wait()
        raise MolarError("stopped")

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def _claim(self, lane: Lane, work: Work) -> bool:
        if work in self._held.values():
            return False
        self._held[lane] = work
        return True

    def _release(self, lane: Lane) -> None:
        if self._held.pop(lane, None):
            self._changed.notify_all()


def at_once(
    todo: Sequence[Point],
    committed: Committed,
    clones: Sequence[Clone],
    lanes: Sequence[Lane],
    lock: int,
    keep_going: bool,
) -> list[str]:
    """Compute them all, in each clone one at a time; what failed. Raises MolarError without `keep_going`: one has.

    However it ends, nothing is computing any more.
    """
    cache, scratch = RunCache(clones[0]), committed.root / records.FOLDER / "scratch"
    _tidy(scratch, forecast(todo, committed, clones[0]))
    claims = Claims(todo, lambda point: pending(point, committed, cache))
    failures: list[str] = []

    def legs(point: Point, lane: Lane) -> Iterator[Leg]:
        left = list(committed.stages)  # DVC may see a stage otherwise than we do: none is gone to twice

        def works() -> list[Work]:
            return [work for work in pending(point, committed, cache) if work[0] in left]

        while found := claims.follow(lane, works):
            (stage, _), last = found[0], len(found) == 1
            folder = _folder(scratch, found[0])
            yield Leg(None if last else stage, folder)
            shutil.rmtree(folder, ignore_errors=True)
            if last:
                return
            del left[: left.index(stage) + 1]
        yield Leg()

    def work(clone: Clone, lane: Lane) -> None:
        while point := claims.take(lane):
            try:
                compute(point, committed, clone, lane, lock, legs(point, lane))
            except MolarError as error:
                lane.end("ended" if claims.stopped else "failed")
                if claims.stopped:
                    return
                if not keep_going:
                    raise
                failures.append(str(error))

    with ThreadPoolExecutor(len(clones)) as pool:
        running = [pool.submit(work, clone, lane) for clone, lane in zip(clones, lanes, strict=True)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            claims.stop()
            while any(not worker.done() for worker in running):
                for clone in clones:  # again, for one may just have started something
                    clone.end()
                wait(running, timeout=0.1)
    for worker in running:
        worker.result()
    return failures


def _folder(scratch: Path, work: Work) -> Path:
    return scratch / f"{work[0]}-{work[1][:16]}"


def _tidy(scratch: Path, ahead: set[Work]) -> None:
    """Remove checkpoints of work that nobody is going to finish: not of this run, and of none for weeks.

    Those of another table's killed run may be days of a GPU, and its command is to go on from them.
    """
    kept = {_folder(scratch, work) for work in ahead}
    for folder in scratch.iterdir() if scratch.is_dir() else []:
        newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
        if folder not in kept and time.time() - newest > ABANDONED_DAYS * 86_400:
            shutil.rmtree(folder, ignore_errors=True)
