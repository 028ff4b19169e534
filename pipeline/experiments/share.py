"""Send a table's records and their artifacts to where colleagues find them, and bring theirs.

Records travel through Git (refs.py, parcel.py), the contents that their dvc.lock files name through DVC's remote
(transfer.py). Contents go before the record that names them. Whatever ends a command, what it has moved is there, and
the same command goes on.

With a record goes its model card, which whoever sends it writes into its folder first; what writes one is the caller's
to give, for cards are the business of a room that knows this one.

Promise: no record is overwritten, on either side: of two that differ each side keeps its own, and it is said. Data that
may not be passed on is never sent (held_back.py): its record stands without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pipeline.errors import MolarError
from pipeline.experiments import parcel, records
from pipeline.experiments.committed import Committed, WorkingTree
from pipeline.experiments.held_back import held_back
from pipeline.experiments.parcel import Parcel
from pipeline.experiments.points import MOST_SEEDS, Point, points_of
from pipeline.experiments.refs import Refs
from pipeline.experiments.table import load_table
from pipeline.experiments.transfer import Kind, Moved, transfer
from pipeline.progress import say

Card = Callable[[Path, Mapping[str, str]], str]  # a record's folder, what of it is held back and why -> its model card


def push(name: str, data: str | None, remote: str | None, git_remote: str, card: Card) -> None:
    """Send what has been computed, each with its card.

    Raises MolarError: there is nothing, no remote, a server or a record's state.
    """
    asked = _Asked(name, data, git_remote)
    here = [point for address, point in asked.points.items() if records.there(asked.root, address)]
    if not here:
        raise MolarError(
            f"{asked}: nothing has been computed for the code of commit {asked.sha}: `molar experiment run {name}`"
        )
    parcels, problems = _read(here, asked.committed)
    there = asked.there
    theirs, unread = asked.arrived(address for address in parcels if address in there)
    differ = [address for address, other in theirs.items() if not parcels[address].same(other)]
    for address in (*differ, *unread):  # a damaged one is not replaced by force either
        parcels.pop(address, None)
    problems += _with_cards(parcels, there, asked.root, card)
    moved = _transferred("push", asked, parcels.values(), remote) if parcels else None
    new = [found for address, found in parcels.items() if address not in there]
    if moved:
        for found in new:
            found.note_runs(moved.cache)
    asked.refs.send({found.address: asked.refs.committed(found.files) for found in new})
    size = sum(len(content) for found in new for content in found.files.values())
    old = f", {len(parcels) - len(new)} there already"
    say(f"{asked}: {_count(len(new), 'record')} sent to Git remote {git_remote} ({_size(size)}){old}")
    if moved:
        say(_artifacts(moved, f"sent to DVC remote {moved.remote}"))
        _tell_absent(moved, parcels.values(), "not sent, for the DVC cache no longer has it whole")
    _tell_held_back(parcels.values())
    _tell_differing(differ, "the one that was sent before stays")
    _fail(problems + list(unread.values()))


def pull(name: str, data: str | None, remote: str | None, git_remote: str) -> None:
    """Bring what has been sent. Raises MolarError: there is nothing, no remote, a server or a record's state."""
    asked = _Asked(name, data, git_remote)
    wanted = [address for address in asked.points if address in asked.there]
    if not wanted:
        raise MolarError(_nothing(asked, asked.there))
    parcels, problems = asked.arrived(wanted)
    differ, new = [], []
    for address, found in parcels.items():
        folder = records.there(asked.root, address)
        if folder is None or _damaged(folder, asked.committed):
            records.put(asked.root, address, found.record)
            new.append(found)
        elif not parcel.of_record(folder, asked.committed).same(found):
            differ.append(address)
    old = len(parcels) - len(new) - len(differ)
    size = sum(len(content) for found in new for content in found.record.values())
    say(f"{asked}: {_count(len(new), 'record')} came from Git remote {git_remote} ({_size(size)}), {old} there already")
    brought = [found for address, found in parcels.items() if address not in differ]
    if brought:
        try:
            moved = _transferred("fetch", asked, brought, remote)
        except MolarError as error:
            raise MolarError(f"the records are here and stand, their artifacts are not: {error}") from None
        for found in brought:
            found.put_runs(moved.cache)
        say(_artifacts(moved, f"came from DVC remote {moved.remote}"))
        _tell_absent(moved, brought, "not on the DVC remote")
        _tell_held_back(brought)
    _tell_differing(differ, "yours stay: to take theirs, delete them under .molar/experiments/records/")
    _fail(list(problems.values()))


class _Asked:
    """A table on one data set, and where its records travel."""

    def __init__(self, name: str, data: str | None, git_remote: str) -> None:
        table, self.committed = load_table(name), Committed(Path.cwd())
        self.root, self.name, self.data = self.committed.root, name, data or next(iter(table.data))
        self.refs = Refs(self.root, git_remote)
        self.points: dict[str, Point] = {}  # by address
        for point in points_of(name, table, self.committed, self.data, range(MOST_SEEDS)):
            self.points.setdefault(point.address, point)

    @cached_property
    def there(self) -> dict[str, str]:
        """Address -> commit of every record on the Git remote."""
        return self.refs.there()

    @property
    def sha(self) -> str:
        return self.committed.sha[:10]

    def __str__(self) -> str:
        return f"{self.name} on {self.data}"

    def arrived(self, addresses: Iterable[str]) -> tuple[dict[str, Parcel], dict[str, str]]:
        """Records of the remote, and of the damaged ones what is wrong."""
        found, problems, wanted = {}, {}, list(addresses)
        self.refs.fetch(wanted)
        for address in wanted:
            try:
                found[address] = parcel.of_files(address, self.refs.files(self.there[address]), self.committed)
            except MolarError as error:
                problems[address] = str(error)
        return found, problems


def _read(points: Sequence[Point], committed: Committed) -> tuple[dict[str, Parcel], list[str]]:
    """The records of this checkout by address, and what is wrong with the damaged ones."""
    found, problems, tree = {}, [], WorkingTree(committed.root)
    for point in points:
        folder = records.there(committed.root, point.address)
        assert folder is not None
        try:
            found[point.address] = parcel.of_record(folder, committed)
        except MolarError as error:
            problems.append(str(error))
            continue
        held = held_back(point.values, committed, tree)
        found[point.address].held_back = {out: why for out, why in held.items() if out in found[point.address].outs}
    return found, problems


def _with_cards(parcels: dict[str, Parcel], there: Mapping[str, str], root: Path, card: Card) -> list[str]:
    """Give a card to each that is not there yet; those of which there is none to be had are left out, and told."""
    problems = []
    for address, found in list(parcels.items()):
        if address in there:
            continue
        try:
            content = card(root / records.FOLDER / "records" / address, found.held_back).encode()
        except MolarError as error:
            problems.append(str(error))
            del parcels[address]
            continue
        records.add(root, address, records.CARD, content)
        found.record[records.CARD] = content
    return problems


def _damaged(folder: Path, committed: Committed) -> bool:
    """Whether it is to be replaced, which is said."""
    try:
        parcel.of_record(folder, committed)
    except MolarError as error:
        say(f"mind: {str(error).partition(':')[0]}; the one that came takes its place")
        return True
    return False


def _transferred(kind: Kind, asked: _Asked, parcels: Iterable[Parcel], remote: str | None) -> Moved:
    """All contents at once; what any of the records holds back is left out, whatever its name in another one."""
    parcels = list(parcels)
    held = {found.outs[out] for found in parcels for out in found.held_back}
    digests = sorted({digest for found in parcels for digest in found.digests} - held)
    with tempfile.TemporaryDirectory(prefix="share-", dir=asked.root / records.FOLDER) as folder:
        return transfer(kind, asked.root, Path(folder), digests, remote)


def _nothing(asked: _Asked, there: dict[str, str]) -> str:
    """Why a pull finds nothing: no records at all, or those of other code, whose commit is named."""
    params = {address.rpartition("-")[2] for address in asked.points}
    others = [address for address in there if address.rpartition("-")[2] in params]
    where = f"Git remote {asked.refs.remote} has no record of {asked}"
    if not others:
        return f"{where}: whoever has computed it runs `molar experiment push {asked.name}`"
    asked.refs.fetch(others)
    commits = sorted({parcel.of_files(address, asked.refs.files(there[address])).commit[:10] for address in others})
    return (
        f"{where} for the code of commit {asked.sha}: {_count(len(others), 'record')} there of the code of commit "
        f"{', '.join(commits)}: check that one out, or compute the rows of this one"
    )


def _artifacts(moved: Moved, how: str) -> str:
    old = max(moved.files - moved.moved, 0)
    return f"artifacts: {_count(moved.moved, 'file')} {how}, {old} there already ({_size(moved.bytes)} in all)"


def _tell_absent(moved: Moved, parcels: Iterable[Parcel], how: str) -> None:
    absent = set(moved.absent)
    outs = sorted({out for found in parcels for out, digest in found.outs.items() if digest in absent})
    if outs:
        say(f"mind: {how}: {', '.join(outs)} of some runs; the records stand, what builds on it computes it anew")


def _tell_held_back(parcels: Iterable[Parcel]) -> None:
    held = sorted({(out, why) for found in parcels for out, why in found.held_back.items()})
    for out, why in held:
        say(f"held back: {out}, for {why}; the records stand, to compute more rows takes one's own copy of the data")


def _tell_differing(addresses: Sequence[str], what: str) -> None:
    if addresses:
        say(f"mind: {_count(len(addresses), 'record')} came out otherwise elsewhere, {what} ({', '.join(addresses)})")


def _fail(problems: list[str]) -> None:
    if problems:
        raise MolarError(f"{_count(len(problems), 'record')} left out: " + "; ".join(problems))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
