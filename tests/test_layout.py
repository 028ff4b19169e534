"""The house keeps its shape: imports point one way, files stay short, nothing unsafe and no machine's own paths."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.import_closure import ROOT, imported_modules, parsed

BASE = {"errors", "progress", "artifacts", "checkpoints", "params", "device", "processes"}

# What each room of pipeline/ may import of ours, itself apart (DESIGN: data walks up, imports point down).
ROOMS = {
    "errors": set(),
    "progress": set(),
    "artifacts": {"errors"},
    "checkpoints": {"errors"},
    "params": {"errors"},
    "processes": set(),
    "device": {"errors", "params", "processes"},
    "retrieval": {"errors", "progress"},
    "contrast": set(),
    "live": {"progress"},
    "world": {"errors", "progress", "params", "artifacts"},
    "catalog": BASE,
    "mirm": BASE | {"catalog", "retrieval", "contrast", "live"},
    "encoders": BASE | {"catalog", "mirm"},
    "recommender": BASE | {"catalog", "mirm", "retrieval", "contrast", "live"},
    "doctor": BASE | {"catalog", "mirm", "recommender"},
    "serving": BASE | {"catalog", "mirm", "encoders", "recommender", "retrieval"},
    "report": BASE | {"catalog", "retrieval", "experiments"},
    "experiments": BASE | {"retrieval"},
}


def tracked() -> list[Path]:
    """Files that are, or would be, in Git."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


PYTHON = [path for path in tracked() if path.suffix == ".py"]
LIBRARY = [path for path in PYTHON if path.is_relative_to(ROOT / "pipeline")]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(ROOT / "pipeline").with_suffix("").parts
    if parts == ("__init__",):
        assert not imported_modules(path)
        return
    imported = imported_modules(path)
    assert not {name for name in imported if name.startswith("stages")}, "the library knows nothing of the command line"
    rooms = {name.split(".")[1] for name in imported if name.count(".")}
    assert parts[0] in ROOMS, f"tests/test_layout.py does not know the room {parts[0]}"
    assert rooms <= ROOMS[parts[0]] | {parts[0]}, f"{parts[0]} may not import {rooms - ROOMS[parts[0]] - {parts[0]}}"


@pytest.mark.parametrize("path", [p for p in PYTHON if p.parent == ROOT / "stages" and p.stem != "cli"], ids=relative)
def test_a_stage_leans_on_the_library_and_never_on_another_stage(path: Path) -> None:
    shared = {"stages", "stages.command", "stages.launch", "stages.paths"}
    assert {name for name in imported_modules(path) if name.startswith("stages")} <= shared


@pytest.mark.parametrize("path", PYTHON, ids=relative)
def test_files_are_short_and_say_what_they_promise(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400
    if path.is_relative_to(ROOT / "pipeline") or path.is_relative_to(ROOT / "stages"):
        assert ast.get_docstring(parsed(path)), "a module opens with what it promises"
    assert path.stem not in {"utils", "helpers", "misc", "common"}


UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_KEYWORDS = {"trust_remote_code", "allow_pickle"}


def unsafe(tree: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE_MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.keyword) and node.arg in UNSAFE_KEYWORDS:
            found.append(str(node.arg))
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "Exception"):
            found.append(f"line {node.lineno}: names no error that it expects")
    return found


@pytest.mark.parametrize(
    "path", [p for p in PYTHON if p.parts[len(ROOT.parts)] in ("pipeline", "stages")], ids=relative
)
def test_no_pickle_no_remote_code_no_swallowed_errors(path: Path) -> None:
    assert unsafe(parsed(path)) == []


def test_the_check_sees_what_is_unsafe() -> None:
    text = "import pickle\ntorch.load(p)\nf(trust_remote_code=True)\ntry:\n    pass\nexcept Exception:\n    pass\n"
    assert unsafe(ast.parse(text)) == [
        "pickle",
        "line 6: names no error that it expects",
        "torch.load",
        "trust_remote_code",
    ]


WORDS = {".py", ".yaml", ".yml", ".md", ".toml", ".sh", ".txt", ".cfg", ""}
MACHINE_PATH = re.compile(r"(?<![\w.}])/(work|home|root|Users|opt|mnt)/\w|[A-Z]:\\\\?Users")


def test_no_file_knows_one_machines_paths() -> None:
    found = [
        f"{relative(path)}:{number}"
        for path in tracked()
        if path.suffix in WORDS
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not found
    assert MACHINE_PATH.search("open('/" + "home/ann/data')") and not MACHINE_PATH.search("../shared/work/x")
