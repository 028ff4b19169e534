"""docs/sources.md: its worked example is a source that runs, on the raw files that it shows."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.catalog import sources
from pipeline.catalog.catalogue import open_items, open_sequences
from pipeline.catalog.quarantine import Quarantine
from tests.catalog.shop import ingest, ingest_params

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")


@pytest.fixture
def raw_folder(tmp_path: Path) -> Path:
    """The files that the page shows, by the names it gives them."""
    root = tmp_path / "raw"
    root.mkdir()
    shown = re.findall(r"^```text (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for name, text in shown:
        (root / name).write_text(text, "utf-8")
    assert [name for name, _ in shown] == ["plays.tsv", "tracks.tsv"]
    return root


@pytest.fixture
def plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page's code as a module, with its line in SOURCES."""
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "plays.py").write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location("plays", tmp_path / "plays.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sources.SOURCES, "plays", module)
    return module


def test_the_worked_example_is_recognised_and_becomes_a_catalogue(tmp_path, raw_folder, plays, capsys) -> None:
    artifact = ingest(ingest_params(raw_folder, source="auto"), tmp_path / "catalog")
    items, sequences = open_items(artifact), open_sequences(artifact)
    assert items.titles == ["So What", "Naima"]
    assert items.attributes == [{"artist": "Miles Davis"}, {"artist": "John Coltrane"}]
    assert {user: sequences.history(u).tolist() for u, user in enumerate(sequences.user_ids)} == {
        "ann": [0, 1],
        "bob": [1],
    }
    assert f"{raw_folder} holds plays (plays.tsv, tracks.tsv): source 'plays'" in capsys.readouterr().err


def test_the_worked_example_quarantines_what_it_cannot_read(raw_folder, plays) -> None:
    for name, line in (("plays.tsv", "ann\tt1\tlate\n"), ("tracks.tsv", "t1\tAgain\t\nt3\tGiant Steps\n")):
        with (raw_folder / name).open("a") as file:
            file.write(line)
    quarantine = Quarantine()
    raw = plays.read(raw_folder, ingest_params(raw_folder), quarantine)
    assert len(raw.items) == 2 and len(raw.interactions) == 3
    assert [entry[:3] for entry in sorted(quarantine.entries)] == [
        ("plays.tsv", 4, "timestamp is not a whole number"),
        ("tracks.tsv", 3, "item id stands in an earlier row too"),
        ("tracks.tsv", 4, "wrong number of fields"),
    ]


def test_the_page_tells_of_every_source() -> None:
    for name in sources.SOURCES:
        assert f"| `{name}` |" in PAGE and f"\n## {name}\n" in PAGE, f"docs/sources.md says nothing of {name}"
