"""dvc.yaml says what the code does: code deps, params sections and data deps of every stage equal what it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from stages import paths
from tests.import_closure import DVC_YAML, FIX, ROOT, closure, code_deps, dvc_stages, parsed, rewrite

STAGES = dvc_stages()
RAW_INPUT = "${ingest.path}"  # ingest reads its path from params


def flat(entries: list) -> list[str]:
    """Outs, metrics or plots as plain paths, options dropped."""
    return [name for entry in entries for name in (entry if isinstance(entry, dict) else [entry])]


def written(stage: str) -> set[str]:
    entry = STAGES[stage]
    return {path for kind in ("outs", "metrics", "plots") for path in flat(entry.get(kind, []))}


def sections_read(tree: ast.Module) -> set[str]:
    """`x` of every `params.x`, where `params` was assigned from `load_params()`; any other use of it is refused."""
    names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target, value in _pairs(node.targets[0], node.value)
        if isinstance(target, ast.Name) and _calls_load_params(value)
    }
    sections, bare = set(), set()
    within_attribute = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        if (isinstance(node.value, ast.Name) and node.value.id in names) or _calls_load_params(node.value):
            sections.add(node.attr)
            within_attribute.add(node.value)
    for node in ast.walk(tree):
        is_use = isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
        if is_use and node not in within_attribute:
            bare.add(f"line {node.lineno}")
    assert not bare, f"hand on sections, never the whole of params: {', '.join(sorted(bare))}"
    return sections


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """What an assignment gives to what: `a, b = f(), g()` is two."""
    both_tuples = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
    return list(zip(target.elts, value.elts, strict=True)) if both_tuples else [(target, value)]


def _calls_load_params(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_params"


def path_constants(stage: str) -> set[str]:
    """Values of the names that stages/<stage>.py takes from stages.paths (`from stages.paths import X`, `paths.X`)."""
    names: set[str] = set()
    for node in ast.walk(parsed(ROOT / "stages" / f"{stage}.py")):
        if isinstance(node, ast.ImportFrom) and node.module == "stages.paths":
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths":
            names.add(node.attr)
    return {Path(getattr(paths, name)).as_posix() for name in names}


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_is_the_module_and_has_no_arguments(stage: str) -> None:
    # A console script would run the main checkout's code in `dvc exp run --temp`; a flag is part of the cache key.
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    assert STAGES[stage]["desc"]


@pytest.mark.parametrize("stage", STAGES)
def test_code_deps_equal_the_import_closure(stage: str) -> None:
    listed = [dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")]
    wanted = code_deps(stage)
    missing, stale = set(wanted) - set(listed), set(listed) - set(wanted)
    assert not missing and not stale, f"{stage}: missing {sorted(missing)}, not imported {sorted(stale)}: run `{FIX}`"
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("stage", STAGES)
def test_params_equal_the_sections_that_the_stage_reads(stage: str) -> None:
    read = sections_read(parsed(ROOT / "stages" / f"{stage}.py"))
    assert set(STAGES[stage]["params"]) == read
    assert "runtime" not in read  # machine settings come from load_runtime and are tracked by no stage


@pytest.mark.parametrize("stage", STAGES)
def test_data_deps_equal_the_directories_that_the_stage_names(stage: str) -> None:
    outs = written(stage)
    inputs = path_constants(stage) - outs
    deps = {dep for dep in STAGES[stage]["deps"] if not dep.endswith(".py") and dep != RAW_INPUT}
    for constant in inputs:
        assert any(dep == constant or dep.startswith(f"{constant}/") for dep in deps), (
            f"{constant} is no dep of {stage}"
        )
    for dep in deps:
        assert any(dep == constant or dep.startswith(f"{constant}/") for constant in inputs), (
            f"{stage} never names {dep}"
        )
    assert (RAW_INPUT in STAGES[stage]["deps"]) == (stage == "ingest")


@pytest.mark.parametrize("stage", STAGES)
def test_outs_are_directories_of_the_stage_alone(stage: str) -> None:
    constants = path_constants(stage)
    for out in flat(STAGES[stage]["outs"]):
        assert out in constants, f"{stage} writes {out} by another name than stages.paths gives it"
        assert [name for name in STAGES if out in written(name)] == [stage]


def test_no_module_that_a_training_stage_runs_can_read_the_truth_of_the_demo_world() -> None:
    readers = {stage for stage, entry in STAGES.items() if "data/world" in entry["deps"]}
    assert readers == {"evaluate"}
    for stage in set(STAGES) - {"demo", "evaluate"}:
        assert not [path for path in closure(stage) if path.is_relative_to(ROOT / "pipeline" / "world")]


def a_project(root: Path, modules: dict[str, str], deps: list[str]) -> Path:
    for name, text in modules.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    lines = ["# a map", "stages:", "  cook:", "    cmd: python -m stages.cook", "    deps:"]
    lines += [*(f"      - {dep}" for dep in deps), "    params:  # of the cook", "      - cook", ""]
    (root / "dvc.yaml").write_text("\n".join(lines))
    return root / "dvc.yaml"


def test_the_closure_is_transitive_and_sees_imports_inside_functions(tmp_path: Path) -> None:
    modules = {
        "stages/__init__.py": '"""Only words."""\n',
        "stages/cook.py": "def main():\n    from pipeline import errors, oven\n    import torch\n",
        "pipeline/__init__.py": "",
        "pipeline/errors.py": "from pipeline.unreached import x\n",
        "pipeline/unreached.py": "",
        "pipeline/oven/__init__.py": "from pipeline.oven.heat import warm\n",
        "pipeline/oven/heat.py": (
            "from typing import TYPE_CHECKING\nfrom . import fire\nif TYPE_CHECKING:\n    import pipeline.unreached\n"
        ),
        "pipeline/oven/fire.py": "import stages.paths\n",
        "stages/paths.py": "",
    }
    path = a_project(tmp_path, modules, ["data/raw", "stages/cook.py", "pipeline/gone.py"])
    wanted = ["pipeline/oven/__init__.py", "pipeline/oven/fire.py", "pipeline/oven/heat.py", "stages/cook.py"]
    assert code_deps("cook", tmp_path) == wanted
    assert rewrite(path, tmp_path) == ["cook"]
    assert dvc_stages(path)["cook"]["deps"] == ["data/raw", *wanted]
    assert path.read_text().startswith("# a map\nstages:\n") and "params:  # of the cook" in path.read_text()
    assert rewrite(path, tmp_path) == []


def test_the_fix_touches_nothing_but_the_code_deps(tmp_path: Path) -> None:
    copy = tmp_path / "dvc.yaml"
    text = DVC_YAML.read_text("utf-8")
    copy.write_text(text.replace("      - stages/evaluate.py\n", "", 1), "utf-8")
    assert rewrite(copy) == ["evaluate"]
    assert copy.read_text("utf-8") == text


def test_handing_on_all_of_params_is_refused() -> None:
    with pytest.raises(AssertionError, match="hand on sections, never the whole of params: line 2"):
        sections_read(ast.parse("params = load_params()\ntrain(params)\n"))
    assert sections_read(ast.parse("p = load_params()\nf(p.seed, p.ingest.path)\nload_params().demo\n")) == {
        "seed",
        "ingest",
        "demo",
    }
