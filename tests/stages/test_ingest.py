"""The stage `ingest`: what it prints, its exit status, and a disk that fills up."""

import errno
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from pipeline import artifacts
from pipeline.catalog import build as module
from pipeline.catalog.catalogue import open_sequences
from pipeline.catalog.workers import cores
from pipeline.progress import console
from stages import ingest
from stages.paths import CATALOG
from tests.catalog.shop import write_shop

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working directory with the demo's params, pointed at a tiny shop in data/raw/demo."""
    yaml = YAML()
    params = yaml.load(PARAMS.read_text("utf-8"))
    params["ingest"] |= {"cold_items": "none", "max_quarantine": 0.0}
    params["ingest"]["columns"] |= {"caption": None, "summary": None}
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as handle:
        yaml.dump(params, handle)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOLAR_SCRATCH", raising=False)
    write_shop(tmp_path / "data" / "raw" / "demo")
    return tmp_path


def run() -> str:
    """Run the stage; returns what it said."""
    with console.capture() as capture:
        ingest.main()
    return capture.get()


def refused() -> str:
    with console.capture() as capture, pytest.raises(SystemExit) as exit_:
        ingest.main()
    assert exit_.value.code == 1
    assert not CATALOG.exists()
    assert not list(CATALOG.parent.glob(".*")), "no half-written sibling stays"
    return capture.get()


def test_it_writes_the_catalogue_and_says_so(project) -> None:
    said = run().splitlines()
    assert len(open_sequences(artifacts.read(CATALOG, "ingest"))) == 2
    assert said[0].split() == ["step", "interactions", "users", "items"]
    assert "items: 3 warm, 0 cold; with title 100.0%, text 66.7%" in said[3]
    assert re.fullmatch(r"ingest: 2 users, 3 items, 6 interactions in \d+ s -> data/catalog", said[-1])


def test_a_split_by_time_says_where_it_cuts(project) -> None:
    text = Path("params.yaml").read_text("utf-8")
    for old, new in (
        ("leave_one_out", "global_time"),
        ("valid_share: 0.1", "valid_share: 0.4"),
        ("test_share: 0.1", "test_share: 0.2"),
    ):
        text = text.replace(old, new, 1)
    Path("params.yaml").write_text(text, "utf-8")
    pairs = ["aa", "bb", "ab", "ba", "aa", "bb", "ca", "ab", "cb"]
    rows = [f"{pair[0]},{pair[1]},{10 * t}\n" for t, pair in enumerate(pairs)]
    (project / "data/raw/demo/interactions.csv").write_text("user,item,timestamp\n" + "".join(rows), "utf-8")
    said = run().splitlines()
    assert said[3].split() == ["of", "items", "seen", "before", "50", "9", "3", "2"]
    assert said[6] == (
        "split by time: validation from 50, test from 80; held-out choices not asked, as their user's first: 1"
    )


def test_a_mistake_is_one_line_and_exit_status_one(project) -> None:
    (project / "data" / "raw" / "demo" / "interactions.csv").write_text("who,item,timestamp\n", "utf-8")
    assert refused() == (
        "error: data/raw/demo/interactions.csv has no column 'user' (it has who, item, timestamp): "
        "correct ingest.columns.user\n"
    )


def test_a_full_disk_is_told_and_leaves_nothing(project, monkeypatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    assert refused() == (
        "error: data/catalog: no space left on the device while writing: free some and run the stage again\n"
    )


def test_a_full_disk_in_the_item_table(project, monkeypatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    assert "no space left on the device while writing" in refused()


@pytest.mark.parametrize(("threads", "processes"), [("3", 3), ("0", cores())])
def test_runtime_threads_is_the_number_of_processes(project, monkeypatch, threads, processes) -> None:
    asked = []
    whole = module.build
    monkeypatch.setattr(module, "build", lambda params, out, n: asked.append(n) or whole(params, out, n))
    monkeypatch.setenv("MOLAR_THREADS", threads)
    run()
    assert asked == [processes]
