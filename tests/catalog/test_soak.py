"""Long checks of ingest: damaged input of every kind, and kills at any moment. `make soak` runs them.

MOLAR_SOAK_CASES: damaged copies a source; 600 of each make over 10,000 in all.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from ruamel.yaml import YAML

from pipeline import artifacts
from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from pipeline.errors import MolarError
from tests.catalog import amazon_shelf, test_json_tables, test_movielens, test_pixelrec, test_recbole
from tests.catalog.shop import ingest, ingest_params, write_shop
from tests.catalog.test_amazon import LAYOUTS
from tests.import_closure import ROOT

CASES = int(os.environ.get("MOLAR_SOAK_CASES", "600"))
SECONDS = 20  # a case; the slowest takes a tenth of one
NASTY = [
    *(b"", b"\n", b"\r", b"\r\n", b",", b"::", b"\t", b"|", b'"', b'""', b"'", b"\\", b"\x00", b"\xff", b"\xe9"),
    *(b"\xef\xbb\xbf", b"nan", b"inf", b"1e400", b"-1", b"0x1F", b"9" * 18, b"9" * 40, b"None", b"null", b"NA", b"{"),
    *(b"}", b"[[[[", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\\ud800", b"(1995)", b"True", b"1.0", b"user", b"a" * 3000),
]


def parquet(root: Path) -> Path:
    write_shop(root)
    for name in ("interactions", "items"):
        pq.write_table(pacsv.read_csv(root / f"{name}.csv"), root / f"{name}.parquet")
        (root / f"{name}.csv").unlink()
    return root


def packed(root: Path, archive: str) -> Path:
    """The shop with its pictures in an archive."""
    write_shop(root)
    shutil.make_archive(str(root / "images"), archive, root / "images")
    shutil.rmtree(root / "images")
    return root


def bytes_column(root: Path) -> Path:
    """The shop as Parquet, pictures and all."""
    parquet(root)
    items = pq.read_table(root / "items.parquet")
    files = [None if name is None else root / "images" / name for name in items["image"].to_pylist()]
    held = [file.read_bytes() if file is not None and file.is_file() else None for file in files]
    items = items.set_column(items.column_names.index("image"), "image", pa.array(held, pa.binary()))
    pq.write_table(items, root / "items.parquet")
    shutil.rmtree(root / "images")
    return root


def covers_zip(root: Path) -> Path:
    """PixelRec with its covers as one downloads them."""
    test_pixelrec.published(root)
    shutil.make_archive(str(root / "covers"), "zip", root / "covers")
    shutil.rmtree(root / "covers")
    return root


def gzipped(root: Path) -> Path:
    """An Amazon category as one downloads it."""
    amazon_shelf.write(root, LAYOUTS["2023 ratings"])
    for path in [path for path in root.iterdir() if path.is_file()]:
        (root / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return root


def real(root: Path) -> Path:
    """The first ratings of MovieLens 100K, all its films, and a few posters."""
    folder = Path(os.environ.get("MOLAR_REAL_DATA", "")) / "ml-100k"
    if not os.environ.get("MOLAR_REAL_DATA") or not folder.is_dir():
        pytest.skip("MOLAR_REAL_DATA names no folder that holds ml-100k/")
    (root / "images").mkdir(parents=True)
    for name in ("u.item", "u.genre"):
        shutil.copyfile(folder / name, root / name)
    lines = (folder / "u.data").read_bytes().splitlines(keepends=True)
    (root / "u.data").write_bytes(b"".join(lines[:500]))
    for path in sorted((folder / "images").iterdir())[:8]:
        shutil.copyfile(path, root / "images" / path.name)
    return root


SOURCES = {
    "tables": ("tables", write_shop),
    "tables, Parquet": ("tables", parquet),
    "tables, bytes": ("tables", bytes_column),
    "tables, zip": ("tables", lambda root: packed(root, "zip")),
    "tables, tar": ("tables", lambda root: packed(root, "tar")),
    "tables, JSON lines": ("tables", lambda root: test_json_tables.as_json_lines(write_shop(root))),
    "movielens 1M": ("movielens", test_movielens.one_million),
    "movielens 100K": ("movielens", test_movielens.hundred_thousand),
    "movielens CSV": ("movielens", lambda root: test_movielens.as_csv(root, "userId,movieId,tag,timestamp\n7,2,x,9\n")),
    "movielens 100K, real": ("movielens", real),
    "pixelrec": ("pixelrec", test_pixelrec.published),
    "pixelrec, zip": ("pixelrec", covers_zip),
    "amazon 2023 ratings, gzipped": ("amazon", gzipped),
    "recbole": ("recbole", lambda root: test_recbole.folder(root, inter=test_recbole.INTER, item=test_recbole.ITEM)),
    "recbole sequences": (
        "recbole",
        lambda root: test_recbole.folder(root, test_inter=test_recbole.LISTS + "u1\ta b c\td\nu2\ta\tb\n"),
    ),
} | {
    f"amazon {name}": ("amazon", lambda root, files=LAYOUTS[name]: amazon_shelf.write(root, files))
    for name in ("2014 loose reviews", "2018 ratings", "2018 reviews", "2023 reviews", "2023 ratings")
}

edits = st.lists(
    st.tuples(
        st.integers(0, 9),  # which file
        st.floats(0, 1, exclude_max=True),  # where in it
        st.sampled_from(["flip", "insert", "replace", "cut", "repeat", "end"]),
        st.sampled_from(NASTY) | st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=5,
)


def damage(root: Path, drawn: list[tuple[int, float, str, bytes]]) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for which, where, kind, what in drawn:
        path = files[which % len(files)]
        content = bytearray(path.read_bytes())
        at = int(where * len(content))
        if kind == "flip" and content:
            content[at] ^= 1 << (len(what) % 8)
        elif kind == "insert":
            content[at:at] = what
        elif kind == "replace":
            content[at : at + max(len(what), 1)] = what
        elif kind == "cut":
            del content[at : at + 7 * len(what) + 1]
        elif kind == "repeat":
            content[at:at] = content[at : at + 40]
        else:
            del content[at:]
        path.write_bytes(content)


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"hangs: more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def swallow(source: str, root: Path, out: Path, **changes: object) -> None:
    """Read and build; what is not refused in one line must add up."""
    params = ingest_params(root, source=source, max_quarantine=1.0, **changes)
    quarantine = Quarantine()
    try:
        raw = sources.read(params, quarantine)
        given = raw.rows_read[raw.interactions_file]
        told = {row for file, row, *_ in quarantine.entries if file == raw.interactions_file}
        assert len(raw.interactions) + quarantine.count(raw.interactions_file) == given
        assert not told & set(raw.interactions.row.tolist()) or "{" in raw.interactions_file
        if source != "amazon" and raw.items_file != raw.interactions_file:  # which leaves out what nobody reviewed
            assert len(raw.items) + quarantine.count(raw.items_file) == raw.rows_read[raw.items_file]
        ingest(params, out)
    except MolarError as error:
        assert "\n" not in str(error), str(error)
        assert not out.exists() and not list(out.parent.glob(".*"))


@pytest.mark.soak
@pytest.mark.parametrize("case", SOURCES)
def test_damaged_input_is_quarantined_or_refused_in_one_line(case, tmp_path, capsys) -> None:
    source, write = SOURCES[case]
    pristine = write(tmp_path / "pristine")
    seen = 0

    @settings(
        max_examples=CASES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(edits)
    def check(drawn: list[tuple[int, float, str, bytes]]) -> None:
        nonlocal seen
        seen += 1
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            root = Path(folder) / "raw"
            shutil.copytree(pristine, root)
            damage(root, drawn)
            with no_longer_than(SECONDS):
                swallow(source, root, Path(folder) / "catalog")

    start = time.perf_counter()
    check()
    with capsys.disabled():
        print(f"\n{case}: {seen} cases, {(time.perf_counter() - start) / seen * 1000:.0f} ms each")


words = st.sampled_from(["a", "b", "i1", "i2", "i3", "7", "", " ", "NA", "None"]) | st.text(max_size=5)
moments = st.integers(-5, 50).map(str) | st.sampled_from(["1.0", "noon", "", "9" * 19]) | st.text(max_size=3)
asked = st.fixed_dictionaries(
    {
        "duplicates": st.sampled_from(["all", "first", "last"]),
        "k_core": st.integers(1, 3),
        "since": st.none() | st.integers(-5, 50),
        "max_history": st.none() | st.integers(1, 5),
        "split": st.sampled_from(["leave_one_out", "global_time"]),
        "cold_items": st.sampled_from(["none", "drawn"]),
        "keep_unseen_items": st.booleans(),
    }
)


@pytest.mark.soak
def test_any_two_tables_and_any_params(tmp_path) -> None:
    @settings(
        max_examples=5 * CASES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.lists(st.tuples(words, words, moments), max_size=30),
        st.lists(st.tuples(words, words, words, words, words), max_size=8),
        asked,
    )
    def check(events: list[tuple[str, ...]], items: list[tuple[str, ...]], params: dict[str, object]) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            root = Path(folder) / "raw"
            root.mkdir()
            for name, header, rows in (
                ("interactions.csv", ("user", "item", "timestamp"), events),
                ("items.csv", ("id", "title", "text", "image", "brand"), items),
            ):
                with (root / name).open("w", encoding="utf-8", newline="", errors="replace") as file:
                    csv.writer(file).writerows([header, *rows])
            with no_longer_than(SECONDS):
                swallow("tables", root, Path(folder) / "catalog", **params)

    check()


KILLS = 20


def project(root: Path) -> Path:
    """A working folder with the project's params, pointed at a shop of 400 pictures."""
    rng = random.Random(0)
    events = "".join(f"u{rng.randrange(300)},i{rng.randrange(400)},{n}\n" for n in range(4000))
    items = "".join(f"i{n},Item {n},Words,i{n}.png,Brand\n" for n in range(400))
    events, items = f"user,item,timestamp\n{events}", f"id,title,text,image,brand\n{items}"
    raw = write_shop(root / "data" / "raw" / "demo", events, items)
    for n in range(400):
        noise = Image.frombytes("RGB", (64, 64), rng.randbytes(3 * 64 * 64)).resize((200, 200))
        noise.save(raw / "images" / f"i{n}.png")
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text("utf-8"))
    params["ingest"] |= {"cold_items": "none"}
    params["ingest"]["columns"] |= {"caption": None, "summary": None}
    with (root / "params.yaml").open("w", encoding="utf-8") as handle:
        yaml.dump(params, handle)
    return root


@pytest.mark.soak
def test_killed_at_any_moment_and_run_again(tmp_path) -> None:
    root = project(tmp_path)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MOLAR_")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stages.ingest"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=root, env=environment, start_new_session=True, **quiet)

    def tree() -> list[str]:
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))

    began = time.perf_counter()
    assert start().wait() == 0
    whole = time.perf_counter() - began
    catalog = root / "data" / "catalog"
    facts, files = artifacts.read(catalog, "ingest").facts, tree()
    rng = random.Random(1)
    killed = 0
    for turn in range(KILLS):
        if turn % 2:
            shutil.rmtree(catalog)  # DVC does so before it runs a stage
        running = start()
        time.sleep(rng.uniform(0.02, 1.0) * whole)
        os.killpg(running.pid, signal.SIGKILL)
        killed += running.wait() == -signal.SIGKILL
        if catalog.exists():
            artifacts.read(catalog, "ingest").verified()
        assert start().wait() == 0, f"turn {turn}"
        assert artifacts.read(catalog, "ingest").verified() == catalog
        assert artifacts.read(catalog, "ingest").facts == facts and tree() == files, f"turn {turn}"
    assert killed > KILLS // 2
