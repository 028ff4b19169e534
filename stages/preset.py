"""`molar preset`: params for a real case, as its difference from params.yaml.

    molar preset                     which presets there are
    molar preset ml-100k             what would change, and nothing is written
    molar preset ml-100k --write     change params.yaml, its comments and everything else kept

A preset is a file presets/<name>.yaml that holds the leaves it sets, nested like params.yaml. It is checked together
with the params it lands in, before anything is shown or written.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from stages.command import command

PRESETS = Path("presets")
PARAMS = Path("params.yaml")

Difference = tuple[str, Any, Any]  # dotted key, value now, value of the preset


@command
def main(
    name: Annotated[str, typer.Argument(help="File name in presets/, without .yaml; none: list them.")] = "",
    write: Annotated[bool, typer.Option("--write", help="Change params.yaml.")] = False,
) -> None:
    """Show what a preset would change in params.yaml, and with --write change it."""
    from pipeline.params import check, load_params
    from pipeline.progress import say

    if not name:
        for line in listing():
            print(line)
        return
    load_params(PARAMS)
    document, preset = _read(PARAMS), _read(_preset_file(name))
    found = differences(document, preset)
    apply(document, preset)
    check(_plain(document), str(_preset_file(name)))
    if not found:
        say(f"{PARAMS} already says what {name} says")
        return
    _show(name, found)
    if write:
        _write(document)
        say(f"{PARAMS}: {len(found)} values changed; `git diff {PARAMS}` shows them, `dvc repro` runs what they touch")
    else:
        say(f"{PARAMS} is unchanged: `molar preset {name} --write` changes it")


def listing() -> list[str]:
    """One line a preset: its name and the first line of its opening comment."""
    paths = sorted(PRESETS.glob("*.yaml"))
    width = max((len(path.stem) for path in paths), default=0) + 2
    return [f"{path.stem:<{width}}{path.read_text('utf-8').splitlines()[0].removeprefix('# ')}" for path in paths]


def differences(document: Any, preset: Any, prefix: str = "") -> list[Difference]:
    """Leaves of `preset` whose value in `document` is another one (or not there at all)."""
    found: list[Difference] = []
    for key, new in preset.items():
        old = document.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append((f"{prefix}{key}", old, new))
    return found


def apply(document: Any, preset: Any) -> None:
    """Put the leaves of `preset` into `document`, in place: comments stay where they are."""
    for key, new in preset.items():
        if isinstance(new, dict) and isinstance(document.get(key), dict):
            apply(document[key], new)
        else:
            document[key] = new


def _preset_file(name: str) -> Path:
    from pipeline.errors import MolarError

    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml"))) or "none: run from the project's root"
        raise MolarError(f"no preset {name!r} in {PRESETS}/ (there are: {known})")
    return path


def _yaml() -> Any:
    """A round-trip parser that keeps comments, quotes and `null`, and wraps nothing."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.representer import RoundTripRepresenter

    def null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
        return representer.represent_scalar("tag:yaml.org,2002:null", "null")

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.representer.add_representer(type(None), null)
    return yaml


def _read(path: Path) -> Any:
    from ruamel.yaml.error import MarkedYAMLError

    from pipeline.errors import MolarError

    try:
        return _yaml().load(path.read_text("utf-8"))
    except MarkedYAMLError as error:
        raise MolarError(f"{path} is not valid YAML: {error.problem or error.context}") from None


def _text(document: Any) -> str:
    from io import StringIO

    stream = StringIO()
    _yaml().dump(document, stream)
    return stream.getvalue()


def _plain(document: Any) -> Any:
    """`document` as the types that params.yaml has for whoever reads it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(_text(document))


def _write(document: Any) -> None:
    partial = PARAMS.with_name(f".{PARAMS.name}.partial")
    partial.write_text(_text(document), "utf-8")
    partial.replace(PARAMS)


def _show(name: str, found: list[Difference]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("key", "params.yaml", name, box=None, pad_edge=False)
    for key, old, new in found:
        table.add_row(key, _word(old), _word(new))
    Console(soft_wrap=True, highlight=False, markup=False).print(table)


def _word(value: Any) -> str:
    """A value as YAML writes it."""
    return _text({"value": value}).removeprefix("value:").removesuffix("\n").strip()


if __name__ == "__main__":
    typer.run(main)
