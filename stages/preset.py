"""`molar preset`: params for a real case, as its difference from params.yaml.

    molar preset                     which presets there are
    molar preset ml-100k             what would change, and nothing is written
    molar preset ml-100k --write     change params.yaml, its comments and everything else kept

Of data that may not be passed on (`runtime.share_data: false`), --write also puts `push: false` into dvc.yaml and the
raw data's .dvc file, under the outs that hold it: `dvc push` then leaves them out. Nothing reruns for it.

A preset is a file presets/<name>.yaml that holds the leaves it sets, nested like params.yaml. It is checked together
with the params it lands in, before anything is shown or written.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import command

if TYPE_CHECKING:
    from pipeline.params.document import Difference

PRESETS = Path("presets")
PARAMS = Path("params.yaml")


@command
def main(
    name: Annotated[str, typer.Argument(help="File name in presets/, without .yaml; none: list them.")] = "",
    write: Annotated[
        bool, typer.Option("--write", help="Change params.yaml, and mark data that may not be passed on in dvc.yaml.")
    ] = False,
) -> None:
    """Show what a preset would change in params.yaml, and with --write change it."""
    from pipeline.params import check, load_params
    from pipeline.params.document import apply, differences, plain, read
    from pipeline.params.sharing import hold_back
    from pipeline.progress import say

    if not name:
        for line in listing():
            print(line)
        return
    load_params(PARAMS)
    document, preset = read(PARAMS), read(_preset_file(name))
    found = differences(document, preset)
    apply(document, preset)
    params = check(plain(document), str(_preset_file(name)))
    if write and not params.runtime.share_data:
        for path in hold_back(Path.cwd(), params.ingest.path):
            say(f"{path}: `push: false` under what holds the data, whose licence forbids to pass it on")
    if not found:
        say(f"{PARAMS} already says what {name} says")
        return
    if write:
        _write(document)
    _show(name, found)  # after it is done: whoever reads this may have gone
    if write:
        say(f"{PARAMS}: {len(found)} values changed; `git diff {PARAMS}` shows them, `dvc repro` runs what they touch")
    else:
        say(f"{PARAMS} is unchanged: `molar preset {name} --write` changes it")


def listing() -> list[str]:
    """One line a preset: its name and the first line of its opening comment."""
    paths = sorted(PRESETS.glob("*.yaml"))
    width = max((len(path.stem) for path in paths), default=0) + 2
    return [f"{path.stem:<{width}}{path.read_text('utf-8').splitlines()[0].removeprefix('# ')}" for path in paths]


def _preset_file(name: str) -> Path:
    from pipeline.errors import MolarError

    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml"))) or "none: run from the project's root"
        raise MolarError(f"no preset {name!r} in {PRESETS}/ (there are: {known})")
    return path


def _write(document: Any) -> None:
    from pipeline.params.document import text_of

    partial = PARAMS.with_name(f".{PARAMS.name}.partial")
    partial.write_text(text_of(document), "utf-8")
    partial.replace(PARAMS)


def _show(name: str, found: "list[Difference]") -> None:
    from rich.console import Console
    from rich.table import Table

    from pipeline.params.document import word

    table = Table(box=None, pad_edge=False)
    for header in ("key", "params.yaml", name):
        table.add_column(header, overflow="fold")  # what one copies is never cut
    for key, old, new in found:
        table.add_row(key, word(old), word(new))
    Console(soft_wrap=True, highlight=False, markup=False).print(table)


if __name__ == "__main__":
    typer.run(main)
