"""`molar experiment push` and `pull` through real remotes: a colleague's fresh clone computes nothing, shows the same.

The commands run in this process, DVC and sshd in theirs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.errors import MolarError
from pipeline.experiments import run, share
from pipeline.experiments.committed import Committed
from pipeline.experiments.figures import figures
from pipeline.experiments.formats import written
from pipeline.experiments.points import points_of
from pipeline.experiments.records import FOLDER
from pipeline.experiments.table import load_table
from pipeline.params.sharing import hold_back
from pipeline.report import card
from pipeline.retrieval.metrics import short
from stages.cli import app

from . import servers
from .sharing import cached, clone, copied, records
from .toy import Toy

Server = Callable[[Path], AbstractContextManager[str]]


def dvc(toy: Toy, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=toy.root, env=toy.environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_a_fresh_clone_computes_nothing_and_shows_the_same_table(
    computed: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    def molar(place: Toy, command: str, *options: str) -> list[str]:
        place.enter(monkeypatch)
        result = CliRunner().invoke(app, ["experiment", command, "toy", *options])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    with servers.local(tmp_path) as config:
        toy = copied(computed, tmp_path, config)
        said = molar(toy, "push", "--licence", "cc-by-4.0")
        assert re.fullmatch(r"toy on demo: 1 record sent to Git remote origin \(\d+ kB\), 0 there already", said[0])
        assert re.fullmatch(
            r"artifacts: \d+ files sent to DVC remote shared, 0 there already \(\S+ kB in all\)", said[1]
        )
        theirs = clone(toy, tmp_path / "theirs", config)
        before = (theirs.root / ".git" / "index").read_bytes()
        said = molar(theirs, "pull")
    assert re.fullmatch(r"toy on demo: 1 record came from Git remote origin \(\d+ kB\), 0 there already", said[0])
    assert re.fullmatch(r"artifacts: \d+ files came from DVC remote shared, 0 there already \(\S+ kB in all\)", said[1])
    assert (theirs.root / ".git" / "index").read_bytes() == before
    assert records(theirs) == records(toy) and cached(theirs.root / ".dvc/cache") == cached(toy.root / ".dvc/cache")
    assert_card(theirs)
    toy.enter(monkeypatch)
    capsys.readouterr()
    table = written(figures("toy"), "terminal", buckets=True)
    theirs.enter(monkeypatch)
    assert written(figures("toy"), "terminal", buckets=True) == table
    run.run("toy", None, range(1), ["whole"])
    assert capsys.readouterr().err == "toy on demo: nothing to compute, 1 run there; `molar experiment show toy`\n"
    shutil.copytree(toy.root / "data/raw/demo", theirs.root / "data/raw/demo")
    assert dvc(theirs, "repro").count("is cached - skipping run") == 4, "the run-cache has come as well"
    assert theirs.executions() == []


def assert_card(toy: Toy) -> None:
    """Of the one record: its figures, digests and commit, and what follows from the record alone."""
    found = {name.rpartition("/")[2]: content.decode() for name, content in records(toy).items() if "per_" not in name}
    shown, metrics, about = found["README.md"], json.loads(found["metrics.json"]), json.loads(found["record.json"])
    for of in metrics["test"].values():
        assert f"| {short(of['ndcg@10'])} |" in shown and f"| {short(of['recall@10'])} |" in shown
    assert shown.startswith("---\nlicense: cc-by-4.0\n") and f"Code: commit `{about['commit']}`. " in shown
    libraries = f"numpy {about['machine']['numpy']}, python {about['machine']['python']}"
    assert libraries in shown and "Not passed on" not in shown
    for stage, entry in YAML(typ="safe").load(found["dvc.lock"])["stages"].items():
        assert all(f"| `{out['path']}` | {stage} | `{out['md5']}` |" in shown for out in entry["outs"])
    (folder,) = (toy.root / FOLDER / "records").iterdir()
    (folder / "README.md").unlink()
    again = card.of_record(folder, {}, "cc-by-4.0")
    (folder / "README.md").write_text(again, "utf-8")
    assert again == shown, "another machine, the same bytes"


@pytest.mark.parametrize("server", [servers.s3, servers.ssh])
def test_through_a_real_server_and_after_it_has_gone(
    computed: Toy, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(tmp_path) as config:
        toy = copied(computed, tmp_path, config)
        toy.enter(monkeypatch)
        share.push("toy", None, None, "origin", card.of_record)
        theirs = clone(toy, tmp_path / "theirs", config)
        theirs.enter(monkeypatch)
        share.pull("toy", None, None, "origin")
    assert not [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("toy on", "artifacts:"))]
    assert records(theirs) == records(toy) and cached(theirs.root / ".dvc/cache") == cached(toy.root / ".dvc/cache")
    toy.enter(monkeypatch)
    tables = [written(figures("toy"), "csv", buckets=True)]
    theirs.enter(monkeypatch)
    assert tables == [written(figures("toy"), "csv", buckets=True)]
    if server is servers.ssh:
        late = clone(toy, tmp_path / "late", config)
        late.enter(monkeypatch)
        with pytest.raises(MolarError) as error:
            share.pull("toy", None, None, "origin")
        told = "the records are here and stand, their artifacts are not: DVC remote 'shared' (ssh://127.0.0.1/"
        assert str(error.value).startswith(told) and "\n" not in str(error.value)
        assert records(late) == records(toy)


def test_data_that_may_not_be_passed_on_is_never_sent(
    computed: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = servers.remote(f"url = {tmp_path / 'remote'}")
    toy = copied(computed, tmp_path, config)
    params = toy.root / "params.yaml"
    params.write_text(params.read_text().replace("share_data: true", "share_data: false"))
    toy.git("commit", "-qam", "a licence")
    toy.git("push", "-q", "origin", "main")
    lock = (next((toy.root / FOLDER / "records").iterdir()) / "dvc.lock").read_text()
    digests = [re.findall(rf"path: {path}\n.*\n.*md5: (\S+)", lock)[0] for path in ("data/catalog", "data/raw/demo")]
    held = {f"files/md5/{digest[:2]}/{digest[2:]}" for digest in digests}
    theirs = clone(toy, tmp_path / "theirs", config)
    (next((toy.root / FOLDER / "records").iterdir()) / "README.md").write_text("of a push that failed")
    for each, command, more in ((toy, share.push, [card.of_record]), (theirs, share.pull, [])):
        each.enter(monkeypatch)
        command("toy", None, None, "origin", *more)
        assert capsys.readouterr().err.splitlines()[2:] == [
            f"held back: {out}, for runtime.share_data is false; the records stand, to compute more rows takes one's "
            "own copy of the data"
            for out in ("data/catalog", "data/raw/demo")
        ]
    assert cached(tmp_path / "remote") and not cached(tmp_path / "remote") & held
    assert records(theirs) == records(toy)
    (shown,) = (content.decode() for name, content in records(theirs).items() if name.endswith("/README.md"))
    assert "Not passed on: `data/catalog` (runtime.share_data is false), `data/raw/demo` (" in shown

    # plain `dvc push` by the marks that `molar preset --write` makes, which make no record out of date
    toy.enter(monkeypatch)
    before = {point.address for point in points_of("toy", load_table("toy"), Committed(toy.root), "demo", [0])}
    assert hold_back(toy.root, "data/raw/shop") == ["dvc.yaml"]
    toy.git("commit", "-qam", "marks")
    assert before == {point.address for point in points_of("toy", load_table("toy"), Committed(toy.root), "demo", [0])}
    assert hold_back(toy.root, "data/raw/demo") == ["data/raw/demo.dvc"] and not hold_back(toy.root, "data/raw/demo")
    (toy.root / "dvc.lock").write_text(lock)
    dvc(toy, "push", "-q", "-r", "shared")
    assert not cached(tmp_path / "remote") & held
