"""Every command explains itself at once: `--help` works and imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import ROOT

COMMANDS = [
    "demo",
    "ingest",
    "train-teacher",
    "finetune-mirm",
    "embed-items",
    "train-dueg",
    "build-index",
    "evaluate",
    "recommend",
    "look",
    "card",
    "preset",
    "download",
    "doctor",
    "cache",
    "experiment",
]
HEAVY = {"torch", "transformers", "peft", "accelerate", "pyarrow", "faiss", "dvc", "numpy", "PIL", "ruamel"}

HELP = """
import sys
from stages.cli import app
sys.argv = ["molar", *sys.argv[1:]]
try:
    app()
finally:
    print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def run_help(*arguments: str) -> tuple[str, set[str]]:
    """Standard output of `molar <arguments> --help` and the top packages that it imported."""
    command = [sys.executable, "-c", HELP, *arguments, "--help"]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    text, _, modules = output.rpartition("imported: ")
    return text, set(modules.split())


def test_the_list_of_commands_is_the_one_that_people_see() -> None:
    text, modules = run_help()
    assert [command for command in COMMANDS if command not in text] == []
    assert not modules & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_command_does_and_stays_light(command: str) -> None:
    text, modules = run_help(command)
    assert "Usage: molar" in text.replace("root ", "")
    assert len(text.splitlines()) > 4
    assert not modules & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_the_module_that_dvc_runs_explains_itself_too(command: str) -> None:
    module = f"stages.{command.replace('-', '_')}"
    run = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "Usage:" in run.stdout
