"""`molar doctor`: what this machine has, what will run where, what is missing, and what each stage will cost.

    molar doctor            one screen; exit status 1 if something that params.yaml needs is missing

Looks and changes nothing: no download, no weight read, data/ as it was. docs/doctor.md explains the lines.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.command import command
from stages.paths import CATALOG, DEMO

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.doctor.examine import Cost, Examination

WIDTH = 80
REMOTE_SECONDS = 6.0  # from the start of the command; DVC itself takes one or two of them
STYLES = {"ok": "green", "look": "yellow", "missing": "bold red"}


@command
def main() -> None:
    """Say what this machine has, what will run where and what is missing."""
    from rich.console import Console

    from pipeline.doctor.probe import reason
    from pipeline.errors import MolarError
    from pipeline.params import load_params, load_runtime

    params, runtime = load_params(), load_runtime()
    asked = Question()  # answers while the libraries load
    try:
        from pipeline.doctor import machine
        from pipeline.doctor.examine import examine
    except (ImportError, OSError) as error:  # OSError: a library that a package loads
        raise MolarError(
            f"a package that every stage needs cannot be imported ({reason(error)}): pip install -e '.[cpu]' again"
        ) from None
    found = examine(params, runtime, DEMO, CATALOG)
    dvc, cache = asked.answer()
    places = {"data/": CATALOG.parent} | ({"the DVC cache": cache} if cache else {})
    facts = [*found.facts, ("disk", machine.disk(places)), ("dvc", dvc)]
    if overrides := machine.overrides(os.environ):
        facts.append(("env", overrides))
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDTH)
    for part in screen(facts, found):
        console.print(part)
    if found.missing:
        sys.exit(1)


class Question:
    """stages/remote.py, asked when made, answered within REMOTE_SECONDS or given up."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        script = str(Path(__file__).with_name("remote.py"))
        self._process = subprocess.Popen(
            [sys.executable, "-P", script],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def answer(self) -> tuple[str, Path | None]:
        """The line about DVC, and where its cache is if that much is known."""
        late = False
        try:
            out, err = self._process.communicate(timeout=max(0.2, self._asked + REMOTE_SECONDS - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            (out, err), late = self._process.communicate(), True
        return dvc_line([json.loads(line) for line in out.splitlines() if line.startswith("{")], err, late)


def dvc_line(answers: list[dict], errors: str, late: bool) -> tuple[str, Path | None]:
    """What stages/remote.py said (its lines of JSON, its standard error, whether time was up), as one line."""
    from pipeline.doctor.machine import installed

    version = installed("dvc")
    last = re.findall(r"^[\w.]+: (.+)$", errors, re.MULTILINE)
    why = f"no answer in {REMOTE_SECONDS:.0f} s" if late else last[-1] if last else "no reason given"
    if not answers:
        return f"{version}, remote unknown: {why}", None
    about, cache = answers[0], Path(answers[0]["cache"])
    if not about["remote"]:
        return f"{version}, no default remote (`dvc remote add -d NAME URL`)", cache
    if len(answers) == 1:
        state = f"gives no answer: {why}"
    else:
        state = "answers" if answers[1]["there"] else "is empty or not made yet: `dvc push` fills it"
    return f"{version}, remote {about['remote']} {state}: {about['url']}", cache


def screen(facts: list[tuple[str, str]], found: Examination) -> list[RenderableType]:
    """The parts of the screen, in order. Only what asks for something may take more than a line."""
    from rich.table import Table
    from rich.text import Text

    known = Table.grid(padding=(0, 2, 0, 0))
    for name, line in facts:
        known.add_row(name, Text(line, no_wrap=True, overflow="ellipsis"))
    checks = Table.grid(padding=(0, 2, 0, 0))
    for finding in found.findings:
        text = Text(
            finding.text, no_wrap=finding.level == "ok", overflow="ellipsis" if finding.level == "ok" else "fold"
        )
        checks.add_row(Text(finding.level, style=STYLES[finding.level]), finding.about, text)
    costs = _costs(found.costs) if found.costs else "costs of the stages: unknown until `dvc repro ingest`"
    return [known, "", checks, "", costs, _verdict(found)]


def _costs(costs: list[Cost]) -> RenderableType:
    from rich.table import Table

    from pipeline.doctor.probe import duration, size

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    table.add_column("stage", no_wrap=True)
    table.add_column("work", overflow="fold")
    for name in ("about", "keeps", "scratch"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in costs:
        sizes = [size(count) if count else "-" for count in (cost.keeps, cost.scratch)]
        table.add_row(cost.stage, cost.what, "-" if cost.seconds is None else duration(cost.seconds), *sizes)
    return table


def _verdict(found: Examination) -> str:
    from pipeline.doctor.probe import duration, size

    verdict = f"missing: {found.missing}, `dvc repro` would stop there" if found.missing else "nothing is missing"
    if not found.costs:
        return verdict
    time_in_all = sum(cost.seconds or 0 for cost in found.costs)
    written = sum((cost.keeps or 0) + (cost.scratch or 0) for cost in found.costs)
    return f"in all about {duration(time_in_all)} and {size(written)}; {verdict}"


if __name__ == "__main__":
    typer.run(main)
