"""A file of one's own: the difference between params.yaml as it is here and as it is committed, as a row beside it."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import MolarError
from pipeline.experiments.committed import Committed
from pipeline.experiments.table import parsed, path_of
from pipeline.params import load_params
from pipeline.params.document import differences, parse, read, word
from pipeline.progress import say

PARAMS = Path("params.yaml")


def new(name: str) -> Path:
    """Write experiments/<name>.yaml. Raises MolarError: there is one, or params.yaml is invalid or as committed."""
    path = path_of(name)
    if not name or Path(name).name != name:
        raise MolarError(f"{name!r} is no name for a file in {path_of('x').parent}/")
    if path.exists():
        raise MolarError(f"{path} is there already: choose another name, or edit it")
    load_params(PARAMS)
    commit = Committed(Path.cwd())
    committed = parse(commit.text("params.yaml"), "the committed params.yaml")
    changed = [(key, new) for key, _, new in differences(committed, read(PARAMS))]
    found = [(key, new) for key, new in changed if key != "seed" and key.split(".")[0] in commit.sections]
    for key, _ in [one for one in changed if one not in found]:
        why = "every row is run with the seeds of --seeds" if key == "seed" else "it changes no result"
        say(f"{key} is left out: {why}")
    if not found:
        raise MolarError(
            f"{PARAMS} has nothing else than the commit: change what the row is to be, then run this again"
        )
    lines = "\n".join(f"      {key}: {word(value)}" for key, value in found)
    text = (
        f"# What this table is to tell. The form is described in docs/experiments.md.\n"
        f"#\n"
        f"#   molar experiment run {name}\n"
        f"#   molar experiment show {name}\n"
        f"title: {word(name)}\n"
        f"against: committed\n"
        f"data:\n"
        f"  here: {{}}                     # the data of the committed params; or a preset: {{preset: ml-1m}}\n"
        f"rows:\n"
        f"  committed: {{}}\n"
        f"  changed:\n"
        f"    set:\n"
        f"{lines}\n"
    )
    parsed(text, str(path))
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path
