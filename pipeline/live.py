"""Curves of a training while it runs, by DVCLive: `dvc plots show dvclive` draws them.

Promise: nothing here changes a result, touches Git, `dvc.yaml` or an experiment, or tells any server. Rows go to
`dvclive/<stage>/plots/metrics/<name>.tsv`, git-ignored and no stage's output: what a stage keeps of its training is in
its own tables. A run that was killed and goes on drops the rows of steps that it takes again.

Only DVCLive's `log_metric` is used: its `next_step` and `end` read every row again, and in `dvc exp run` would have
the folder tracked. A row costs 0.2 ms a curve, so there is one every two seconds at most, and about a thousand in all.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pipeline.progress import say

if TYPE_CHECKING:
    import dvclive

ROOT = Path("dvclive")  # git-ignored, and no plot of dvc.yaml, which complains of one that is not there yet
SECONDS, ROWS = 2.0, 1000


class Live:
    """The curves of one stage."""

    def __init__(self, stage: str) -> None:
        self._stage, self._folder = stage, ROOT / stage
        self._logger: dvclive.Live | None = None
        self._off = not Path(".dvc").is_dir()  # outside of a project DVCLive would make one
        self._waiting: dict[str, list[float]] = {}
        self._apart, self._last_step, self._last_time = 1, 0, time.monotonic()

    def begin(self, done: int, total: int) -> None:
        """Training goes on after step `done` (0: from the start) of `total`."""
        self._apart, self._last_step, self._last_time = max(1, total // ROWS), done, time.monotonic()
        if done == 0:
            shutil.rmtree(self._folder, ignore_errors=True)
        for path in self._folder.rglob("*.tsv"):
            header, *rows = path.read_text("utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and int(row.split("\t")[0]) <= done]
            path.write_text("".join([header, *kept]), "utf-8")

    def add(self, step: int, losses: Mapping[str, float], learning_rate: float) -> None:
        """One step; a row holds the means since the last row."""
        for name, value in losses.items():
            self._waiting.setdefault(name, []).append(value)
        if step - self._last_step >= self._apart and time.monotonic() - self._last_time >= SECONDS:
            self.write(step, {"learning_rate": learning_rate})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A row now: `values`, and the means of what was added since the last row."""
        means = {name: fmean(of_name) for name, of_name in self._waiting.items()}
        self._waiting.clear()
        logger = self._opened()
        if logger is None:
            return
        logger.step = step
        for name, value in (means | dict(values)).items():
            logger.log_metric(name, value)
        self._last_step, self._last_time = step, time.monotonic()

    def _opened(self) -> dvclive.Live | None:
        """DVCLive's logger, a second's work; None where it cannot be had, which is said once."""
        if self._logger is None and not self._off:
            os.environ["DVC_STUDIO_OFFLINE"] = "true"
            import dvclive
            from scmrepo.exceptions import SCMError

            try:
                self._logger = dvclive.Live(str(self._folder), resume=True, save_dvc_exp=False, dvcyaml=False)
            except (SCMError, OSError) as error:  # a repository without a commit, a folder that cannot be written
                self._off = True
                say(f"{self._stage}: no live curves ({error})")
        return self._logger
