"""Which first-party modules a stage's result depends on, found by reading its imports (DVC does not follow them).

    python -m tests.import_closure            shows each stage's code dependencies and what dvc.yaml lacks
    python -m tests.import_closure --write    puts them into dvc.yaml, comments and order of the rest kept

The closure of `stages/<stage>.py` is transitive and counts imports inside functions, submodules named in
`from package import submodule`, and every package `__init__.py` that holds more than a docstring.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
DVC_YAML = ROOT / "dvc.yaml"
FIRST_PARTY = ("pipeline", "stages")
FIX = "python -m tests.import_closure --write"

# Modules that cannot change a result, only how it is said, where it is kept or whether it is refused. An edit to one
# of them reruns nothing, so whoever adds a line here answers for that.
PRESENTATION = (
    "pipeline.artifacts",  # what is written is the stage's; the manifest follows from it
    "pipeline.checkpoints",
    "pipeline.device",
    "pipeline.errors",
    "pipeline.live",  # shows numbers while they come
    "pipeline.params",  # the values are tracked as params
    "pipeline.processes",  # who does which part; what the parts are is the library's
    "pipeline.progress",
    "stages.command",
    "stages.launch",
    "stages.paths",  # the paths stand in dvc.yaml
)


def module_file(module: str, root: Path = ROOT) -> Path | None:
    """The file of a first-party module or package, None if `module` is neither (an attribute, another project)."""
    if module.split(".")[0] not in FIRST_PARTY:
        return None
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def imported_modules(path: Path, root: Path = ROOT) -> set[str]:
    """First-party modules that `path` imports anywhere in it, packages on the way included."""
    names: set[str] = set()
    package = path.relative_to(root).parent.parts
    for node in _executed(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    with_parents = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
    return {name for name in with_parents if module_file(name, root)}


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`, which never runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _executed(node)


def is_presentation(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in PRESENTATION)


def closure(stage: str, root: Path = ROOT) -> list[Path]:
    """The files behind `python -m stages.<stage>` that can change its result, sorted, the stage's own included."""
    found: set[Path] = set()
    pending = [f"stages.{stage}"]
    seen = set(pending)
    while pending:
        path = module_file(pending.pop(), root)
        assert path is not None
        if path.name != "__init__.py" or _says_more_than_words(parsed(path)):
            found.add(path)
        new = {name for name in imported_modules(path, root) if not is_presentation(name)} - seen
        seen |= new
        pending.extend(new)
    return sorted(found)


def _says_more_than_words(tree: ast.Module) -> bool:
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in tree.body)


def code_deps(stage: str, root: Path = ROOT) -> list[str]:
    """The same as dvc.yaml writes it: POSIX paths from the project's root."""
    return [path.relative_to(root).as_posix() for path in closure(stage, root)]


def dvc_stages(path: Path = DVC_YAML) -> dict[str, Any]:
    """The `stages` of dvc.yaml, by name."""
    return YAML(typ="safe").load(path.read_text("utf-8"))["stages"]


def rewrite(path: Path = DVC_YAML, root: Path = ROOT) -> list[str]:
    """Make the `.py` deps of every stage equal its closure, in place. Returns the names of the stages that changed."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.preserve_quotes = True
    yaml.width = 120
    document = yaml.load(path.read_text("utf-8"))
    changed = []
    for name, entry in document["stages"].items():
        wanted, deps = code_deps(name, root), entry["deps"]
        if [dep for dep in deps if dep.endswith(".py")] == wanted:
            continue
        for index in reversed([i for i, dep in enumerate(deps) if dep.endswith(".py")]):
            del deps[index]
        deps.extend(wanted)
        changed.append(name)
    if changed:
        with path.open("w", encoding="utf-8") as handle:
            yaml.dump(document, handle)
    return changed


def main(arguments: list[str]) -> int:
    if arguments == ["--write"]:
        print("rewritten:", ", ".join(rewrite()) or "nothing, dvc.yaml is right")
        return 0
    if arguments:
        print(__doc__)
        return 2
    stale = 0
    for name, entry in dvc_stages().items():
        wanted, listed = set(code_deps(name)), {dep for dep in entry["deps"] if dep.endswith(".py")}
        print(name, *sorted(wanted), sep="\n    ")
        for word, paths in (("missing", wanted - listed), ("not imported", listed - wanted)):
            for path in sorted(paths):
                stale += 1
                print(f"  {word} in dvc.yaml: {path}")
    print(f"run `{FIX}`" if stale else "dvc.yaml is right")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
