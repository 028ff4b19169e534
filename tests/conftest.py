"""What several rooms' tests share: an edited copy of params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent

Nested = dict[str, Any]


def merged(base: Nested, changes: Nested) -> Nested:
    """`base` with the leaves of `changes` put in, both untouched."""
    result = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if nested else value
    return result


@pytest.fixture
def params_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Nested], Path]:
    """Write the project's params.yaml with some leaves changed into an empty folder and work there."""
    monkeypatch.chdir(tmp_path)

    def write(changes: Nested) -> Path:
        yaml = YAML(typ="safe")
        yaml.default_flow_style = False
        with Path("params.yaml").open("w", encoding="utf-8") as handle:
            yaml.dump(merged(yaml.load((ROOT / "params.yaml").read_text("utf-8")), changes), handle)
        return Path("params.yaml")

    return write
