"""A table as a file, experiments/<name>.yaml: its rows as overrides of params, and the paper's own figures.

    title: Table 5, what each part of Molar is worth
    source: arXiv 2412.18176v2, table 5        # of the figures under `paper`
    against: Molar                             # the row that the others are tested against; the first without it
    data:                                      # data sets; the first is the one that runs unless --data names others
      demo: {path: data/raw/demo, differs: "a drawn world"}  # the committed params, which must ingest that
      ml-1m: {preset: ml-1m, beside: MovieLens, differs: "ratings of 4 and 5 only"}
    rows:
      Molar:
        paper: {PixelRec: {ndcg@10: 0.0197}}   # by the paper's data set
      w/o IT:
        set: {finetune_mirm.tasks.image_text: 0}
        on: {ml-1m: {finetune_mirm.steps: 900}}  # and on one data set alone
        system: dueg                           # whose figures the row shows: dueg (the default), teacher, sum, ...
        data: [demo]                           # data sets that the row applies to; all without it
        needs: {models/bert: google-bert/bert-base-uncased@86b5e09}  # folders, and what with; a data set may, too

Every row starts from the committed params.yaml, then come the data set's preset, the data set's `set`, the row's `set`,
what it sets `on` the data set, the seed. So a row says all that sets it apart, and none inherits what another one
changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.errors import MolarError
from pipeline.params import load
from pipeline.params.document import text_in
from pipeline.params.section import Section

FOLDER = Path("experiments")
MODELS = "models"  # checkpoints of the checkout, which every row's clone is given
METRICS = tuple(f"{metric}@{cutoff}" for cutoff in (10, 20, 50) for metric in ("ndcg", "recall"))

# That `evaluate` ranks, by their names in per_user.parquet: one who misspells it is told before any row is computed.
System = Literal["popularity", "teacher", "dueg", "dueg_index", "sum", "sum_index", "oracle", "ceiling"]

Overrides = dict[str, Any]  # "train_dueg.alignment.weight": 0.0


class DataSet(Section):
    """One of our data sets, and how it differs from the paper's one that its figures stand beside."""

    preset: str | None = None  # a file of presets/; none: the committed params,
    path: str | None = None  # which must have this `ingest.path`, so that no other data takes the data set's name
    set: Overrides = Field(default_factory=dict)
    needs: dict[str, str] = Field(default_factory=dict)
    beside: str | None = None  # the paper's data set; none: the only one that the rows' figures are of
    differs: str | None = None


class Row(Section):
    set: Overrides = Field(default_factory=dict)
    on: dict[str, Overrides] = Field(default_factory=dict)  # data set -> what is set there alone, over `set`
    system: System = "dueg"
    data: list[str] | None = Field(None, min_length=1)
    needs: dict[str, str] = Field(default_factory=dict)
    paper: dict[str, dict[str, float]] = Field(default_factory=dict)  # the paper's data set -> metric -> its figure
    note: str | None = None


class Table(Section):
    """A whole file."""

    title: str
    source: str | None = None
    note: str | None = None
    against: str | None = None
    data: dict[str, DataSet] = Field(min_length=1)
    rows: dict[str, Row] = Field(min_length=1)

    def overrides(self, row: str, data: str) -> Overrides:
        """All that a row sets on a data set."""
        return self.rows[row].set | self.rows[row].on.get(data, {})

    @property
    def reference(self) -> str:
        """The row that the others are tested against."""
        return self.against or next(iter(self.rows))

    def rows_of(self, data: str) -> list[str]:
        """Names of the rows that apply to a data set, in the file's order."""
        return [name for name, row in self.rows.items() if row.data is None or data in row.data]

    def paper_data(self, data: str) -> str | None:
        """The paper's data set whose figures stand beside `data`."""
        named = self.data[data].beside
        known = {of for row in self.rows.values() for of in row.paper}
        return named or (known.pop() if len(known) == 1 else None)


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.yaml"


def load_table(name: str) -> Table:
    """experiments/<name>.yaml. Raises MolarError: no such file, no YAML, an unknown key, a name that nothing has."""
    path = path_of(name)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml"))) or "none: run from the project's root"
        raise MolarError(f"no experiment {name!r} in {FOLDER}/ (there are: {known})")
    return parsed(text_in(path), str(path))


def parsed(text: str, where: str) -> Table:
    """`text` as a table; errors open with `where` it comes from."""
    table = load.validated(Table, load.parsed(text, where), where)
    for problem in _unknown_names(table):
        raise MolarError(f"{where}: {problem}")
    return table


def _unknown_names(table: Table) -> list[str]:
    """What names something that the file does not have."""
    problems = []
    if table.against and table.against not in table.rows:
        problems.append(f"against = {table.against!r} is none of the rows ({', '.join(table.rows)})")
    for name, row in table.rows.items():
        problems += [
            f"rows.{name}.{key} names {data!r}, which is not under data ({', '.join(table.data)})"
            for key, named in (("data", row.data or []), ("on", row.on))
            for data in named
            if data not in table.data
        ]
        problems += [
            f"unknown key rows.{name}.paper.{of}.{metric} (allowed: {', '.join(METRICS)})"
            for of, figures in row.paper.items()
            for metric in figures
            if metric not in METRICS
        ]
    entries: list[tuple[str, DataSet | Row]] = [(f"data.{name}", entry) for name, entry in table.data.items()]
    entries += [(f"rows.{name}", entry) for name, entry in table.rows.items()]
    for where, entry in entries:
        sets = {"set": entry.set} | {f"on.{data}": keys for data, keys in getattr(entry, "on", {}).items()}
        problems += [f"{where}.{key}.seed: the seeds are those of --seeds" for key in sets if "seed" in sets[key]]
        problems += [
            f"{where}.needs.{folder}: a row finds checkpoints under {MODELS}/ alone"
            for folder in entry.needs
            if Path(folder).parts[:1] != (MODELS,)
        ]
    return problems
