"""params.yaml as a document: values are changed in place, and comments, quotes and `null` stay as they were.

`molar preset` changes the user's file with it, an experiment makes each row's file from the committed one.
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarbool import ScalarBoolean

from pipeline.errors import MolarError

Difference = tuple[str, Any, Any]  # dotted key, value now, new value


def read(path: Path) -> Any:
    """The file as a document. Raises MolarError: no file, no YAML."""
    try:
        return parse(text_in(path), str(path))
    except FileNotFoundError:
        raise MolarError(f"{path} not found: run from the project's root") from None


def text_in(path: Path) -> str:
    """What a text file holds. Raises MolarError: no UTF-8; FileNotFoundError."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise MolarError(f"{path} is not UTF-8 (byte {error.start}): save it as such") from None


def parse(text: str, where: str) -> Any:
    """`text` as a document. Raises MolarError, which opens with `where` the text came from, if it is no YAML."""
    try:
        return _yaml().load(text)
    except YAMLError as error:
        raise no_yaml(error, where) from None


def no_yaml(error: YAMLError, where: str) -> MolarError:
    """What is wrong with a text, and in which line where the parser knows it, as one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    line = f" in line {mark.line + 1}" if mark else ""
    why = problem or getattr(error, "context", None) or str(error).splitlines()[0]
    return MolarError(f"{where} is not valid YAML{line}: {why}")


def text_of(document: Any) -> str:
    """What the file is to hold."""
    stream = StringIO()
    _yaml().dump(document, stream)
    return stream.getvalue()


def plain(document: Any) -> Any:
    """`document` as the types that params.yaml has for whoever reads it: what a parse of `text_of` it would give."""
    if isinstance(document, dict):
        return {key: plain(value) for key, value in document.items()}
    if isinstance(document, list):
        return [plain(value) for value in document]
    for kind in (ScalarBoolean, float, int, str):  # of which a document has its own kinds, which remember their looks
        if isinstance(document, kind) and not isinstance(document, bool):
            return bool(document) if kind is ScalarBoolean else kind(document)
    return document


def word(value: Any) -> str:
    """A value as YAML writes it, in one line and without the comments that a document keeps beside it."""
    if isinstance(value, list):
        value = CommentedSeq(plain(value))
        value.fa.set_flow_style()
    return text_of({"value": value}).removeprefix("value:").removesuffix("\n").strip()


def leaf(values: Any, key: str) -> Any:
    """What a dotted key names. Raises KeyError: nothing."""
    for part in key.split("."):
        values = values[part]
    return values


def differences(document: Any, changes: Any, prefix: str = "") -> list[Difference]:
    """Leaves of `changes` whose value in `document` is another one (or not there at all)."""
    found: list[Difference] = []
    for key, new in changes.items():
        old = document.get(key)
        if isinstance(new, dict) and isinstance(old, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append((f"{prefix}{key}", old, new))
    return found


def apply(document: Any, changes: Any) -> None:
    """Put the leaves of `changes` into `document`, in place: comments stay where they are."""
    for key, new in changes.items():
        if isinstance(new, dict) and isinstance(document.get(key), dict):
            apply(document[key], new)
        else:
            document[key] = new


def override(document: Any, key: str, value: Any, where: str) -> None:
    """Set the leaf with that dotted key, in place. Raises MolarError: there is no such leaf."""
    *parents, last = key.split(".")
    section = document
    for part in parents:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        raise MolarError(f"{where}: params.yaml has no key {key}")
    if isinstance(section[last], dict):
        raise MolarError(f"{where}: {key} is a section: set its keys ({', '.join(section[last])})")
    section[last] = value


def _yaml() -> Any:
    """A round-trip parser that keeps comments, quotes and `null`, and wraps nothing."""

    def null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
        return representer.represent_scalar("tag:yaml.org,2002:null", "null")

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.representer.add_representer(type(None), null)
    return yaml
