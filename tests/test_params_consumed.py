"""Every parameter is read by the code of a stage that lists its section: none is promised and then ignored."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterable
from pathlib import Path

from pipeline.params import Params
from pipeline.params.section import Section
from tests.import_closure import ROOT, closure, dvc_stages, parsed


def leaves(model: type[Section], prefix: str = "") -> list[str]:
    """Dotted names of a section's fields, sub-sections opened."""
    names = []
    for name, field in model.model_fields.items():
        parts = [field.annotation, *typing.get_args(field.annotation)]
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, Section)]
        names += leaves(inner[0], f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return names


def reads(files: Iterable[Path]) -> tuple[set[str], set[str], set[str]]:
    """What the code reads: attributes, sections splatted into a call, and plain names.

    `getattr(x, name) for name in ("a", "b")` reads the attributes a and b. `f(**x.sasrec.model_dump())` hands every
    field of `sasrec` to f, which refuses what it has no parameter for; the parameter must then be used by name.
    """
    attributes, splatted, names = set(), set(), set()
    for node in (node for path in files for node in ast.walk(parsed(path))):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            attributes.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.keyword) and node.arg is None and ast.unparse(node.value).endswith(".model_dump()"):
            splatted.add(ast.unparse(node.value).split(".")[-2])
        elif isinstance(node, ast.DictComp | ast.ListComp | ast.SetComp | ast.GeneratorExp):
            for loop in node.generators:
                if isinstance(loop.iter, ast.Tuple) and f", {ast.unparse(loop.target)})" in ast.unparse(node):
                    attributes |= {item.value for item in loop.iter.elts if isinstance(item, ast.Constant)}
    return attributes, splatted, names


def unread(model: type[Section], files: Iterable[Path]) -> list[str]:
    """Leaves with a name on their dotted path that no file reads."""
    attributes, splatted, names = reads(files)
    ignored = []
    for leaf in leaves(model):
        *above, last = leaf.split(".")
        by_keyword = bool(above) and above[-1] in splatted and last in names
        if not (set(above) <= attributes and (last in attributes or by_keyword)):
            ignored.append(leaf)
    return ignored


def test_every_parameter_is_consumed_by_a_stage_that_tracks_it() -> None:
    stages = dvc_stages()
    ignored = []
    for section, field in Params.model_fields.items():
        users = [stage for stage, entry in stages.items() if section in entry["params"]]
        if section == "runtime":  # tracked by none, read by all
            files = [
                p for room in ("pipeline", "stages") for p in (ROOT / room).rglob("*.py") if "params" not in p.parts
            ]
        else:
            assert users, f"no stage lists the section {section}"
            files = [path for stage in users for path in closure(stage)]
        model = field.annotation
        if isinstance(model, type) and issubclass(model, Section):
            ignored += [f"{section}.{leaf}" for leaf in unread(model, set(files))]
        elif section not in reads(files)[0]:
            ignored.append(section)
    assert not ignored, f"never read: {', '.join(ignored)}"


def test_a_section_listed_by_a_stage_exists() -> None:
    for stage, entry in dvc_stages().items():
        assert set(entry["params"]) <= set(Params.model_fields), stage


class Inner(Section):
    used: int
    forgotten: int


class Outer(Section):
    inner: Inner
    splatted: Inner
    written_only: int
    looped: int


def test_the_check_sees_a_forgotten_field(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "def f(p):\n    p.written_only = 1\n    g(**p.splatted.model_dump())\n"
        "    return p.inner.used  # p.inner.forgotten\n"
        "def g(used, forgotten):\n    return used, [getattr(p, name) for name in ('looped',)]\n"
    )
    assert unread(Outer, [module]) == ["inner.forgotten", "splatted.forgotten", "written_only"]
