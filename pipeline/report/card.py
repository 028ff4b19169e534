"""The model card of a run: one Markdown page to be published beside its artifacts, with Hugging Face's front matter.

    from pipeline.report import card
    card.write(Path("."), Path("published/README.md"), licence="cc-by-4.0")

`molar experiment push` sends `of_record` along with each record.

Promise: every figure is metrics.json's, and metrics.json and params.yaml are those that dvc.lock records, or the card
is refused. Standard errors are data/evaluation's (of a record of `molar experiment` they are computed from its
per_user.parquet); where neither is at hand their column has a dash. What is not known is called unknown. No path of the
machine is told. A record's card follows from the record alone: whoever writes it, wherever, writes the same bytes.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from pipeline.catalog.licences import Licence, of_data
from pipeline.errors import MolarError
from pipeline.params.document import text_of
from pipeline.report import card_words
from pipeline.report.card_run import Run, opened, withheld
from pipeline.report.place import check_place
from pipeline.report.results import ORDER
from pipeline.retrieval.metrics import short

OPENING = "---\n"  # of the front matter
PACKAGES = ("torch", "transformers", "peft", "numpy", "pyarrow", "dvc")
FAISS = ("faiss-cpu", "faiss-gpu")
HARDWARE = ("cores", "processor")  # of a record's machine; the rest are libraries
PARTS = {
    "test": "test queries, among all warm items",
    "cold_among_all": "held-out choices of cold items, among all items",
    "cold_among_cold": "the same, among the cold items alone",
}
NAMES = {"ndcg@10": "NDCG@10", "recall@10": "Recall@10"}


def write(root: Path, path: Path, *, licence: str | None = None, commit: str | None = None) -> None:
    """Write the card of the run at `root` (a project, a clone, or an experiment's record) to `path`.

    `licence` is that of what is published, a word that Hugging Face knows; `commit` replaces what Git says at `root`.
    Raises MolarError: no finished run, files of different runs, a folder that is not there, a file that is no card.
    """
    check_place(path)
    if path.exists() and not _is_card(path):
        raise MolarError(f"{path} is there and is no model card: give the card another name")
    run = opened(root, commit)
    path.write_text(text(replace(run, held_back=withheld(root, run)), licence), "utf-8")


def _is_card(path: Path) -> bool:
    """Of the opening alone, and of a file: a device would be read without end."""
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        return handle.read(len(OPENING.encode())) == OPENING.encode()


def of_record(folder: Path, held_back: Mapping[str, str], licence: str | None = None) -> str:
    """The card that goes with the record in `folder`; `held_back` are outs that are not published, and why.

    One that lies there already counts for nothing: it may be of a push that failed and held back less.
    Raises MolarError: files that are not of one run.
    """
    return text(replace(opened(folder), held_back=held_back), licence)


def text(run: Run, licence: str | None = None) -> str:
    """The card's Markdown."""
    known = of_data(run.params.ingest)
    sections = {
        f"Molar on {known.data}": card_words.about(run.params, run.served, run.mirm),
        "Measured": _measured(run),
        "Data": _data(run, known),
        "What was run": _ran(run),
        "Intended use and limits": card_words.limits(run.params, run.metrics, run.served, known.ours),
        "Use": card_words.use(run.machine is not None, run.held_back),
        "Reference": card_words.REFERENCE,
    }
    body = [f"## {name}\n\n{words}\n" for name, words in sections.items()]
    return f"{OPENING}{text_of(_front(run, known, licence))}---\n\n" + "\n".join(body).removeprefix("#")


def _front(run: Run, known: Licence, licence: str | None) -> dict[str, Any]:
    given = licence or ("apache-2.0" if known.ours else "other")
    found: dict[str, Any] = {"license": given}
    if given == "other":
        found["license_name"] = "unknown"
    backbone = (run.mirm or {}).get("backbone", {})
    found |= {"base_model": backbone["hub"]} if backbone.get("hub") else {}
    found |= {
        "library_name": "molar",
        "tags": ["recommendation", "sequential-recommendation", "multimodal", "molar"],
        "metrics": ["ndcg", "recall"],
    }
    ours = run.metrics["test"][run.served]
    measured = [{"type": metric, "name": name, "value": ours[metric]} for metric, name in NAMES.items()]
    result = {
        "task": {"type": "recommendation", "name": "Next-item recommendation"},
        "dataset": {"type": "sequences", "name": known.data},
        "metrics": measured,
    }
    return found | {"model-index": [{"name": f"Molar, {run.served}", "results": [result]}]}


def _measured(run: Run) -> str:
    masked = "left out of the ranking" if run.params.protocol.mask_seen else "ranked too"
    parts = [
        f"Full ranking, ties by item number; items of the history are {masked}. ± is one standard error over users: "
        f"what other users would change, not another seed (this is one run, of seed {run.params.seed}). What is served "
        f"is `{run.served}`.",
        "Systems: " + "; ".join(f"`{n}`, {card_words.SYSTEMS[n]}" for n in ORDER if n in run.metrics["test"]) + ".",
        "coverage@10 and gini@10 are of the first ten places: the share of items shown, and how unevenly (0: all "
        "alike). debiased: a query counts the less, the more popular its target is.",
    ]
    for part, name in PARTS.items():
        if part in run.metrics:
            name += "" if part in run.errors else " (its errors were not at hand where this card was written)"
            parts.append(f"{name[0].upper()}{name[1:]}:\n\n{_systems(run, part)}")
    for about, of in run.metrics["difference"].items():
        pair, metric = about.rsplit(" ", 1)
        interval = f"95 % interval over users {of['low']:+.4f} to {of['high']:+.4f}"
        parts.append(f"{pair.replace('-', ' - ')}, {NAMES[metric]}: {of['mean']:+.4f}, {interval}.")
    return "\n\n".join(parts)


def _systems(run: Run, part: str) -> str:
    more = ["coverage@10", "gini@10", "debiased ndcg@10"] if part == "test" else []
    rows = []
    for name in (name for name in ORDER if name in run.metrics[part]):
        of, errors = run.metrics[part][name], run.errors.get(part, {}).get(name, {})
        cells = [cell for m in ("ndcg@10", "recall@10") for cell in (short(of[m]), short(errors.get(m)))]
        rows.append([f"**{name}**" if name == run.served else name, *cells, *(short(of[m]) for m in more)])
    return table(["system", "NDCG@10", "±", "Recall@10", "±", *more], rows)


def _data(run: Run, known: Licence) -> str:
    licence = f"Conditions of the data: {known.words}."
    if run.summary is None:
        return f"{licence}\n\nStatistics: not at hand where this card was written (data/catalog)."
    split, items = run.summary["split"], run.summary["items"]
    rows = {
        "users": split["users"],
        "items, warm": items["warm"],
        "items, cold": items["cold"],
        "training interactions": split["training"],
        "validation queries": split["validation"],
        "test queries": split["test"],
        "queries for cold items": split["cold"],
        "items with a title": items["with_title"],
        "items with a text": items["with_text"],
        "items with a picture": items["with_image"],
        "mean length of a sequence": run.summary["sequence_length"]["mean"],
        "rows and pictures set aside": sum(map(_count, run.summary["quarantine"].values())),
    }
    return f"{licence}\n\n{table(['', ''], [[name, f'{value:,}'] for name, value in rows.items()])}"


def _count(reasons: Any) -> int:
    return sum(map(_count, reasons.values())) if isinstance(reasons, dict) else int(reasons)


def _ran(run: Run) -> str:
    params = {key: _shown(value) for key, value in run.values.items() if key != "runtime"}  # which changes no result
    outs = [(stage, out) for stage, entry in run.lock.items() for out in entry["outs"]]
    digests = [[f"`{out['path']}`", stage, f"`{out['md5']}`", f"{out['size']:,}"] for stage, out in outs]
    since = f"; {run.changed} files of code have changed since they made this run" if run.changed else ""
    fetched = "`dvc pull` fetches them" if run.machine is None else "`molar experiment pull` brings them"
    fetched += ", but for what is not passed on" if run.held_back else ""
    held = [f"`{out}` ({why})" for out, why in sorted(run.held_back.items())]
    without = f" Not passed on: {', '.join(held)}." if held else ""
    return "\n\n".join(
        [
            f"Code: {run.commit}{since}. params.yaml: SHA-256 `{run.digest}`.",
            _libraries(run),
            f"<details><summary>Its params</summary>\n\n```yaml\n{text_of(params)}```\n\n</details>",
            f"Artifacts, as dvc.lock records them ({fetched}; `.dir`: of a folder's listing).{without}",
            table(["artifact", "stage", "MD5", "bytes"], digests),
        ]
    )


def _libraries(run: Run) -> str:
    if run.machine is None:
        versions = [f"Python {platform.python_version()}", *(f"{p} {_version(p)}" for p in PACKAGES)]
        versions += [f"{p} {_version(p)}" for p in FAISS if _version(p) != "absent"]
        return f"Libraries where this card was written: {', '.join(versions)}."
    versions = [f"{name} {of}" for name, of in sorted(run.machine.items()) if name not in HARDWARE]
    told = ", ".join(versions) or "not on record"
    return f"Libraries where this record was put together (a stage from the cache may have had others): {told}."


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; what would end a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _shown(value: Any) -> Any:
    """A section's values; of a path on some machine its last part alone."""
    if isinstance(value, dict):
        return {key: _shown(of) for key, of in value.items()}
    if isinstance(value, str) and PurePath(value).is_absolute():
        return f".../{PurePath(value).name}"
    return value


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
