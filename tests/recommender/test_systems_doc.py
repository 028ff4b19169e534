"""docs/systems.md is true: every row of its tables of systems is a set of params that asks for that system."""

import re

import pytest
from ruamel.yaml import YAML

from pipeline.params import check
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "systems.md").read_text("utf-8")
OVERRIDE = re.compile(r"`([a-z_0-9]+(?:\.[a-z_0-9]+)+)=([^`]+)`")


def rows():
    """(section, system, overrides) of every table row that names params."""
    for section in PAGE.split("\n## ")[1:]:
        for line in section.splitlines():
            found = OVERRIDE.findall(line)
            if line.startswith("| ") and found:
                yield section.split("\n")[0], line.split("|")[1].strip(), found


def params(overrides):
    yaml = YAML(typ="safe")
    values = yaml.load(ROOT / "params.yaml")
    for key, value in overrides:
        *above, last = key.split(".")
        section = values
        for name in above:
            section = section[name]
        assert last in section, key
        section[last] = yaml.load(value)
    return check(values, "docs/systems.md")


@pytest.mark.parametrize(("section", "system", "overrides"), list(rows()), ids=lambda part: str(part)[:20])
def test_a_row_is_params_that_run(section, system, overrides):
    found = params(overrides)
    name = system.split("_")[0].split(" ")[0].lower()
    if name in ("fpmc", "gru4rec", "sasrec", "duorec", "llm"):
        assert name in (found.train_teacher.model, found.train_dueg.model)


def test_all_rows_of_the_paper_are_there():
    systems = {}
    for section, system, _ in rows():
        systems.setdefault(section.split(":")[0], []).append(system)
    assert [len(systems[table]) for table in ("Table 2", "Table 4", "Figure 3")] == [10, 5, 5]
