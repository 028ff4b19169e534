"""How fast is `ingest` from a large CSV to filtered, sorted sequences? Side by side with what people would use.

    pip install -c constraints.txt polars duckdb
    python -m benchmarks.ingest                      8.8 M rows, two rounds; some ten minutes of CPU each
    python -m benchmarks.ingest --rows 88134420      ten times as many

Draws interactions at the size of the paper's Amazon set (993,087 users, 301,312 items, 8,813,442 rows, Zipf-like, many
equal timestamps), then lets each tool read the same file, apply an iterative 5-core, sort by (user, time, row) and
build sequences, each in a process of its own: CPU seconds, wall seconds, peak resident memory. Every result is
compared, row by row, with that of `core`: Arrow's CSV reader and a few numpy calls, the least that could work.
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

USERS, ITEMS, ROWS, K = 993_087, 301_312, 8_813_442, 5
Sequences = tuple[np.ndarray, np.ndarray]  # item of every kept row by (user, time, row), and each row's user


def generate(folder: Path, rows: int) -> None:
    """interactions.csv and an items.csv with nothing but ids and titles."""
    import pyarrow as pa
    import pyarrow.csv as csv

    scale = rows / ROWS
    rng = np.random.default_rng(0)
    users, items = int(USERS * scale), int(ITEMS * scale)
    user_ids = np.char.add("A", np.char.zfill(rng.permutation(users).astype("U12"), 13))
    item_ids = np.char.add("B", np.char.zfill(rng.permutation(items).astype("U9"), 9))

    def zipf(size: int) -> np.ndarray:
        weights = (np.arange(size) + 20.0) ** -0.75
        return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(rows)).clip(max=size - 1)

    user, item = zipf(users), zipf(items)
    day = rng.integers(15_000, 18_000, rows) * 86_400  # whole days, as Amazon's: ties within most users
    user_column = pa.DictionaryArray.from_arrays(pa.array(user, pa.int32()), pa.array(user_ids)).cast(pa.string())
    item_column = pa.DictionaryArray.from_arrays(pa.array(item, pa.int32()), pa.array(item_ids)).cast(pa.string())
    table = pa.table({"user": user_column, "item": item_column, "timestamp": day})
    csv.write_csv(table, folder / "interactions.csv", csv.WriteOptions(quoting_style="none"))
    titles = pa.table({"id": item_ids, "title": item_ids})
    csv.write_csv(titles, folder / "items.csv", csv.WriteOptions(quoting_style="none"))


def core(path: Path) -> Sequences:
    """Arrow's reader with dictionaries, bincounts, one argsort of a composite key."""
    import pyarrow as pa
    import pyarrow.csv as csv

    codes = pa.dictionary(pa.int32(), pa.string())
    kinds = {"user": codes, "item": codes, "timestamp": pa.int64()}
    table = csv.read_csv(
        path, csv.ReadOptions(block_size=1 << 24), convert_options=csv.ConvertOptions(column_types=kinds)
    ).unify_dictionaries()
    user, item = (np.concatenate([c.indices.to_numpy() for c in table[n].chunks]) for n in ("user", "item"))
    users, items = (np.array(table[n].chunk(0).dictionary) for n in ("user", "item"))
    time_ = table["timestamp"].to_numpy()
    kept = np.arange(len(user))
    while True:
        good = (np.bincount(user[kept])[user[kept]] >= K) & (np.bincount(item[kept])[item[kept]] >= K)
        if good.all():
            break
        kept = kept[good]
    key = user[kept].astype(np.int64) << 32 | (time_[kept] - time_.min())
    kept = kept[np.argsort(key, kind="stable")]
    return items[item[kept]], users[user[kept]]


def ours(path: Path) -> Sequences:
    """What the stage runs, up to its sequences."""
    from pipeline.catalog import split
    from pipeline.catalog.filtering import Steps, filtered
    from pipeline.catalog.order import by_first_appearance
    from pipeline.catalog.quarantine import Quarantine
    from pipeline.catalog.sources.events import read_interactions

    events, _ = read_interactions(path, ("user", "item", "timestamp", None), Quarantine())
    params = _ingest_params(path.parent)
    warm, _ = filtered(events, np.zeros(len(events.item_ids), np.bool_), params, Steps())
    order, number = by_first_appearance(warm.item, len(events.item_ids))
    sequences, _ = split.leave_one_out(warm, number, len(order))
    items = np.array([events.item_ids[code] for code in order], object)
    return items[sequences.items], np.repeat(np.array(sequences.user_ids, object), np.diff(sequences.offsets))


def whole_stage(path: Path) -> Callable[[], Sequences]:
    """`ingest` itself: item table, quarantine, summary, Parquet and manifest included; then how to read it back."""
    from pipeline import artifacts
    from pipeline.catalog.build import build
    from pipeline.catalog.catalogue import open_items, open_sequences

    out = path.parent / "catalog"
    with artifacts.write(out) as partial:
        build(_ingest_params(path.parent), partial)

    def read_back() -> Sequences:
        catalog = artifacts.read(out, "ingest")
        sequences, items = open_sequences(catalog), np.array(open_items(catalog).item_ids, object)
        return items[sequences.items], np.repeat(np.array(sequences.user_ids, object), np.diff(sequences.offsets))

    return read_back


def polars(path: Path) -> Sequences:
    """Lazy scan, semi-joins until nothing changes, stable sort."""
    import polars as pl

    frame = pl.scan_csv(path).with_row_index("row").collect(engine="streaming")
    while True:
        size = len(frame)
        lazy = frame.lazy()
        for name in ("user", "item"):
            good = frame.lazy().group_by(name).len().filter(pl.col("len") >= K)
            lazy = lazy.join(good, on=name, how="semi")
        frame = lazy.collect(engine="streaming")
        if len(frame) == size:
            break
    frame = frame.sort("user", "timestamp", "row")
    return frame["item"].to_numpy(), frame["user"].to_numpy()


def duckdb(path: Path) -> Sequences:
    """SQL: counts by window, repeated until nothing changes."""
    import duckdb as db

    db.execute("set threads to 2")
    db.execute(f"create table g as select row_number() over () as row, * from read_csv('{path}')")
    size = -1
    while size != (size := db.execute("select count(*) from g").fetchone()[0]):  # type: ignore[index]
        db.execute(
            f"create or replace table g as from g semi join (select user from g group by user having count(*) >= {K}) "
            f"using (user) semi join (select item from g group by item having count(*) >= {K}) using (item)"
        )
    found = db.execute('select item, user from g order by user, "timestamp", row').fetchnumpy()
    return found["item"], found["user"]


def pandas(path: Path) -> Sequences:
    """read_csv, transform("size"), sort_values."""
    import pandas as pd

    frame = pd.read_csv(path, dtype={"user": "category", "item": "category"})
    while True:
        counts = [frame.groupby(name, observed=True)[name].transform("size") for name in ("user", "item")]
        good = (counts[0] >= K) & (counts[1] >= K)
        if good.all():
            break
        frame = frame[good]
    frame = frame.sort_values(["user", "timestamp"], kind="stable")
    return frame["item"].to_numpy().astype(str), frame["user"].to_numpy().astype(str)


TOOLS: dict[str, Callable[[Path], Sequences | Callable[[], Sequences]]] = {
    f.__name__: f for f in (core, ours, whole_stage, polars, duckdb, pandas)
}


def _ingest_params(folder: Path):  # type: ignore[no-untyped-def]
    from pipeline.params import load_params

    params = load_params().ingest
    names = {"text": None, "caption": None, "summary": None, "image": None}
    columns = params.columns.model_copy(update=names)
    changes = {"path": str(folder), "columns": columns, "k_core": K, "cold_items": "none", "max_quarantine": 0.0}
    return params.model_copy(update=changes)


def child(tool: str, path: Path) -> None:
    """Run one tool and print its figures; imports count, the comparison's digest does not."""
    start, cpu = time.perf_counter(), time.process_time()
    found = TOOLS[tool](path)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    item, user = found() if callable(found) else found
    item, user = np.asarray(item), np.asarray(user)
    starts = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]]))  # users come in any order
    lengths = np.diff(np.concatenate([starts, [len(user)]]))
    by_name = np.argsort(user[starts].astype("U14"))
    rows = np.repeat(starts[by_name] - np.concatenate([[0], np.cumsum(lengths[by_name])[:-1]]), lengths[by_name])
    order = rows + np.arange(len(user))
    digest = hashlib.sha256()
    for first in range(0, len(order), 1 << 20):  # in pieces: text of fixed width takes a hundred bytes a row
        part = order[first : first + (1 << 20)]
        digest.update(item[part].astype("U10").tobytes() + user[part].astype("U14").tobytes())
    print(f"{cpu:.2f} {wall:.2f} {peak:.0f} {len(item)} {digest.hexdigest()[:12]}")


def main(
    rows: Annotated[int, typer.Option(help="How many interactions.")] = ROWS,
    repeat: Annotated[int, typer.Option(help="Rounds; the tools take turns, the least CPU time counts.")] = 2,
    only: Annotated[str, typer.Option(help="Names of the tools to run beside core, separated by commas.")] = "",
    tool: Annotated[str, typer.Option(help="Internal: run one tool on FILE.")] = "",
    file: Annotated[Path | None, typer.Option(help="Internal: the file.")] = None,
) -> None:
    """Generate, run every tool, print a table of ratios."""
    if tool and file:
        child(tool, file)
        return
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        generate(folder, rows)
        path = folder / "interactions.csv"
        print(f"{rows:,} rows, {path.stat().st_size / 2**20:,.0f} MiB")
        found: dict[str, list[list[str]]] = {}
        for _ in range(repeat):
            for name in ["core", *only.split(",")] if only else TOOLS:
                command = [sys.executable, "-m", "benchmarks.ingest", "--tool", name, "--file", str(path)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(f"{name}: not run ({done.stderr.strip().splitlines()[-1]})")
                    continue
                found.setdefault(name, []).append(done.stdout.split())
        least = {name: min(float(run[0]) for run in runs) for name, runs in found.items()}
        print("| tool | CPU s | x core | wall s | peak MiB | rows left | equal |\n|---|---|---|---|---|---|---|")
        for name, runs in found.items():
            best = min(runs, key=lambda run: float(run[0]))
            equal = "yes" if best[4] == found["core"][0][4] else "NO"
            ratio = least[name] / least["core"]
            print(f"| {name} | {best[0]} | {ratio:.2f} | {best[1]} | {best[2]} | {int(best[3]):,} | {equal} |")


if __name__ == "__main__":
    typer.run(main)
