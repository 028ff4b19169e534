"""Records by Git: two people's rows meet, no record is overwritten, and what goes wrong is one line. No DVC in here."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.errors import MolarError
from pipeline.experiments import share
from pipeline.experiments.cache import Cache
from pipeline.experiments.committed import Committed, WorkingTree
from pipeline.experiments.held_back import held_back
from pipeline.experiments.records import FOLDER
from pipeline.experiments.refs import NAMESPACE
from pipeline.experiments.transfer import Moved
from pipeline.params.load import parsed

from .sharing import address, card, clone, forge, records, with_origin
from .toy import Toy, made

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Toy, Toy]:
    """Two clones of one repository; contents are said to be there already."""

    def there(kind: str, root: Path, folder: Path, digests: Sequence[str], remote: str | None) -> Moved:
        return Moved(Cache(root / ".dvc" / "cache"), remote or "shared", 0, len(digests), 0, [])

    monkeypatch.setattr(share, "transfer", there)
    ann = made(tmp_path / "mine" / "checkout", dvc=False)
    with_origin(ann, tmp_path / "origin.git")
    return ann, clone(ann, tmp_path / "theirs")


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Do:
    return Do(monkeypatch, capsys)


class Do:
    """Runs a command in a checkout; what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
        self.patch, self.captured = monkeypatch, capsys

    def push(self, toy: Toy, git_remote: str = "origin") -> list[str]:
        toy.enter(self.patch)
        share.push("toy", None, None, git_remote, card)
        return self.captured.readouterr().err.splitlines()

    def pull(self, toy: Toy, git_remote: str = "origin") -> list[str]:
        toy.enter(self.patch)
        share.pull("toy", None, None, git_remote)
        return self.captured.readouterr().err.splitlines()

    def refused(self, command: str, toy: Toy, git_remote: str = "origin") -> str:
        with pytest.raises(MolarError) as error:
            getattr(self, command)(toy, git_remote)
        self.captured.readouterr()
        assert "\n" not in str(error.value)
        return str(error.value)


def git(toy: Toy, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=toy.root, check=True, capture_output=True, text=True)
    return done.stdout


def test_rows_of_two_people_meet_and_neither_is_lost(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    forge(ann, 0)
    forge(bob, 1)
    assert do.push(ann)[0].startswith("toy on demo: 1 record sent to Git remote origin (")
    assert do.push(bob)[0].startswith("toy on demo: 1 record sent to Git remote origin (")
    assert do.push(ann)[0] == "toy on demo: 0 records sent to Git remote origin (0 B), 1 there already"
    for toy in two:
        assert do.pull(toy)[0].endswith(", 1 there already")
    assert records(ann) == records(bob) and len(records(ann)) == 12


def test_a_card_goes_with_each_record_and_an_unchanged_one_is_not_sent_again(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    place = forge(ann, 0)
    do.push(ann)
    sent, kept = git(ann, "ls-remote", "origin"), records(ann)
    do.pull(bob)
    words = f"A card of {place}, without []"
    assert records(bob) == kept and kept[f"{place}/README.md"].decode() == words
    commit = next(line.split()[0] for line in sent.splitlines() if line.endswith(place))
    assert git(ann, "show", f"{commit}:README.md") == words, "whoever looks at it in Git finds it"
    for toy in two:
        assert do.push(toy)[0] == "toy on demo: 0 records sent to Git remote origin (0 B), 1 there already"
    assert (git(ann, "ls-remote", "origin"), records(ann)) == (sent, kept)


DATA = ["data/raw/demo", "data/catalog"]
MARKS = {
    "params.yaml": (
        "share_data: true",
        "share_data: false",
        ["data/raw/demo", "data/catalog"],
        "runtime.share_data is",
    ),
    "data/raw/demo.dvc": ("raw", "raw\n  push: false", DATA, "data/raw/demo.dvc says"),
    "dvc.yaml": (
        "metrics: [metrics.json]",
        "metrics: [metrics.json: {push: false}]",
        ["metrics.json"],
        "dvc.yaml says",
    ),
}


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_counts_in_the_last_commit_or_the_working_tree(name: str, tmp_path: Path) -> None:
    toy = made(tmp_path / "checkout", dvc=False)
    path, (before, after, held, why) = toy.root / name, MARKS[name]
    (toy.root / "data/raw/demo.dvc").write_text("outs:\n- md5: x\n  path: raw")
    git(toy, "add", "-f", "data/raw/demo.dvc")
    toy.git("commit", "-qm", "raw data")

    def found() -> dict[str, str]:
        values = parsed(Committed(toy.root).text("params.yaml"), "params.yaml")
        return held_back(values, Committed(toy.root), WorkingTree(toy.root))

    plain = path.read_text()
    assert found() == {}
    path.write_text(plain.replace(before, after))
    assert list(found()) == held and all(said.startswith(why) for said in found().values())
    assert all(said.endswith("in the working tree, not committed") for said in found().values())
    toy.git("commit", "-qam", "a mark")
    assert list(found()) == held and not any("committed" in said for said in found().values())
    path.write_text(plain)
    assert list(found()) == held, "what the last commit marks"


def test_what_the_working_tree_alone_marks_is_not_sent(two: tuple[Toy, Toy], do: Do) -> None:
    ann, _ = two
    forge(ann, 0)
    path = ann.root / "dvc.yaml"
    path.write_text(path.read_text().replace(*MARKS["dvc.yaml"][:2]))
    said = "held back: metrics.json, for dvc.yaml says push: false in the working tree, not committed; the records"
    assert any(line.startswith(said) for line in do.push(ann))


def test_without_a_card_a_record_is_left_out_and_the_others_travel(
    two: tuple[Toy, Toy], do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = two
    good, bad = forge(ann, 0), forge(ann, 1)

    def refusing(folder: Path, held_back: Mapping[str, str]) -> str:
        if folder.name == bad:
            raise MolarError("not of one run")
        return card(folder, held_back)

    ann.enter(monkeypatch)
    with pytest.raises(MolarError, match=r"^1 record left out: not of one run$"):
        share.push("toy", None, None, "origin", refusing)
    do.pull(bob)
    assert {name.partition("/")[0] for name in records(bob)} == {good}


def test_index_working_tree_branches_and_refs_stay_as_they_are(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    place = forge(ann, 0)
    (ann.root / "staged.txt").write_text("mine")
    git(ann, "add", "staged.txt")
    state = [(git(toy, "status", "--porcelain"), git(toy, "for-each-ref")) for toy in two]
    index = (ann.root / ".git/index").read_bytes()
    do.push(ann)
    do.pull(bob)
    assert [(git(toy, "status", "--porcelain"), git(toy, "for-each-ref")) for toy in two] == state
    assert (ann.root / ".git/index").read_bytes() == index
    assert [line.split()[1] for line in git(ann, "ls-remote", "origin", "refs/molar/*").splitlines()] == [
        f"{NAMESPACE}{place}"
    ]


def test_of_two_records_that_differ_each_side_keeps_its_own_and_it_is_said(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    place = forge(ann, 0)
    forge(bob, 0, '{"other": 1}')
    do.push(ann)
    before = records(bob), git(bob, "ls-remote", "origin")
    said = f"mind: 1 record came out otherwise elsewhere, the one that was sent before stays ({place})"
    assert said in do.push(bob)
    assert any(line.startswith("mind: 1 record came out otherwise elsewhere, yours stay") for line in do.pull(bob))
    assert (records(bob), git(bob, "ls-remote", "origin")) == before


def test_a_damaged_record_is_named_and_the_others_travel(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    good, bad = forge(ann, 0), forge(ann, 1)
    damaged = ann.root / FOLDER / "records" / bad / "per_user.parquet"
    damaged.write_bytes(b"PAR1 and no more")
    told = do.refused("push", ann)
    assert told.startswith(f"1 record left out: the record {bad} has a per_user.parquet that is cut short: delete ")
    assert do.pull(bob)[0].startswith("toy on demo: 1 record came")
    assert {name.partition("/")[0] for name in records(bob)} == {good}
    (bob.root / FOLDER / "records" / good / "metrics.json").write_text("{} ")
    assert do.pull(bob)[0] == (
        f"mind: the record {good} has another metrics.json than its dvc.lock says; the one that came takes its place"
    )
    damaged.write_bytes(b"PAR1PAR1")
    do.push(ann)
    tree = git(ann, "hash-object", "-t", "tree", "-w", "/dev/null")
    empty = git(ann, "commit-tree", tree.strip(), "-m", "empty").strip()
    git(ann, "push", "-q", "--force", "origin", f"{empty}:{NAMESPACE}{bad}")
    assert f"the record {bad} has no metrics.json: whoever computed it pushes it again" in do.refused("pull", bob)
    assert f"the record {bad} has no metrics.json" in do.refused("push", ann), "it is not replaced by force"


def test_records_of_other_code_are_named_by_their_commit(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    forge(ann, 0)
    computed = git(ann, "rev-parse", "HEAD")[:10]
    do.push(ann)
    (bob.root / "toy.py").write_text("# other code\n")
    bob.git("commit", "-qam", "other code")
    assert do.refused("pull", bob) == (
        f"Git remote origin has no record of toy on demo for the code of commit {git(bob, 'rev-parse', 'HEAD')[:10]}: "
        f"1 record there of the code of commit {computed}: check that one out, or compute the rows of this one"
    )
    assert records(bob) == {}


def test_what_is_missing_is_one_line_that_says_what_to_do(two: tuple[Toy, Toy], do: Do) -> None:
    ann, bob = two
    assert do.refused("push", ann).endswith("`molar experiment run toy`")
    assert "whoever has computed it runs `molar experiment push toy`" in do.refused("pull", bob)
    place = forge(ann, 0)
    assert do.refused("push", ann, "nowhere") == (
        "this checkout has no Git remote 'nowhere' (there are: origin; --git-remote names another)"
    )
    gone = str(ann.root / "gone.git")
    assert do.refused("push", ann, gone).startswith(f"git ls-remote (Git remote {gone!r}): fatal: ")
    ann.git("remote", "remove", "origin")
    assert "there is none: `git remote add origin URL`" in do.refused("pull", ann)
    assert place == address(ann, 0) and len(records(ann)) == 5
