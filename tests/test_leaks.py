"""Nothing held out reaches training: over random catalogues, every split, every kind of cold item, every filter.

`facing` is all that training can see: sequences, windows and targets, popularity, fine-tuning examples, and the
items that whitening is fitted on. Two ways to catch a leak:

- Which rows are held out is told by plain Python (tests/catalog/plain_split.py), not by the code under test. These rows
  are given other items, or dropped; all that training sees must stay exactly what it was, the order of batches
  included.
- Embeddings of items without a training interaction are NaN, and every example names the items it is about: neither
  these nor cold items may turn up anywhere.

What no split can hide is what the filters see: they look at all interactions, as is the custom, so that a held-out
one may carry its user into the k-core. The rows that the filters kept are therefore the ones perturbed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.catalog import split
from pipeline.catalog.build import Selected
from pipeline.catalog.catalogue import Sequences
from pipeline.mirm.conditioning import fit
from pipeline.mirm.tasks import Tasks
from pipeline.recommender.batches import collate, epoch_batches
from pipeline.recommender.duorec import Partners
from tests.catalog.plain_split import (
    COLD,
    ITEMS,
    NO_FILTER,
    SPLITS,
    EmptyError,
    Parts,
    Row,
    drawn_cases,
    held_out_items,
    parts,
    selected,
)
from tests.catalog.shop import ingest_params
from tests.mirm.shop import recipe

EVERYTHING_SHOWN = {
    "image_text_with_text": 1.0,
    "attributes_with_image": 1.0,
    "behaviour_with_image": 1.0,
    "answer": "all",
}


class Words:
    """Stands for catalogue.Items: every item has a picture and says its own name."""

    def __init__(self, found: Selected) -> None:
        self.item_ids = [item.item_id for item in found.items]
        self.titles = [item.title for item in found.items]
        self.captions = [item.caption for item in found.items]
        self.summaries = [item.summary for item in found.items]
        self.texts = [None] * len(self)
        self.attributes = [{} for _ in self.item_ids]
        self.has_image = np.ones(len(self), np.bool_)

    def __len__(self) -> int:
        return len(self.item_ids)


class PlainPrompts:
    """Prompts that say which items they show, in place of tokens."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def words(self, item: int) -> list[str]:
        return [self.ids[item]]

    def item(self, item: int, *, picture: bool = True, words: bool = True) -> Any:
        return (self.ids[item], picture, words)

    def history(self, history: list[int], pictures: list[bool], most_tokens: int, *, words: bool = True) -> Any:
        return tuple(self.ids[item] for item in history)

    def answer(self, clauses: list[str]) -> Any:
        return tuple(clauses)

    def saying(self, clauses: list[str]) -> Any:
        return tuple(sorted(clauses))


def examples(found: Selected) -> dict[str, Counter[Any]]:
    """Every fine-tuning example that any step can draw, by kind, items by id."""
    tasks, ids, rng = tasks_of(found)
    makers = {kind: tasks._example for kind in ("image_text", "attributes", "behaviour")}
    drawn = {kind: [(c, make(kind, c, rng)) for c in tasks._choices[kind].tolist()] for kind, make in makers.items()}
    return {
        kind: Counter((ids[tasks._about(kind, c)], e.prompt, tuple(sorted(e.answer))) for c, e in made)
        for kind, made in drawn.items()
    }


def pairs(found: Selected) -> dict[str, Counter[Any]]:
    """Every pair that contrast can draw: the item it is about, what either prompt shows."""
    tasks, ids, rng = tasks_of(found)
    alone = {"modalities"}  # one of two, by a draw
    return {
        kind: Counter(
            (ids[tasks._about(kind, c)], pair.one, () if kind in alone else pair.other)
            for c, pair in ((c, tasks._pair(kind, c, rng)) for c in choices.tolist())
        )
        for kind, choices in tasks._choices.items()
    }


def tasks_of(found: Selected) -> tuple[Tasks, list[str], np.random.Generator]:
    """Fine-tuning's draws over a catalogue, its ids, and a generator; it draws order alone: shares are certain."""
    ids = [item.item_id for item in found.items]
    asked = recipe(tasks=EVERYTHING_SHOWN | {"modalities": 10})
    tasks = Tasks(Words(found), found.sequences, PlainPrompts(ids), asked, seed=0)  # type: ignore[arg-type]
    return tasks, ids, np.random.default_rng(0)


def batches(sequences: Sequences, ids: list[str]) -> list[Any]:
    """Two epochs of windows in their order: user, inputs, targets, by id."""
    seen = []
    for epoch in range(2):
        for rows in epoch_batches(sequences, 3, 2, "windows", seed=1, epoch=epoch, overlap=1):
            batch = collate(sequences, rows)
            for user, inputs, targets, real in zip(
                batch.users_B.tolist(), batch.inputs_BL, batch.targets_BL, batch.real_BL, strict=True
            ):
                pair = ("".join(ids[i] for i in part[real].tolist()) for part in (inputs, targets))
                seen.append((epoch, sequences.user_ids[user], *pair))
    return seen


def partners(sequences: Sequences, ids: list[str]) -> list[tuple[str, str]]:
    """Every history that DuoRec can draw as another view, with whose it is."""
    known = Partners(sequences, 3, seed=0)
    ends = zip(known.user_T.tolist(), known.end_T.tolist(), strict=True)
    return sorted(
        (sequences.user_ids[user], "".join(ids[i] for i in sequences.history(user, end))) for user, end in ends
    )


def facing(found: Selected) -> dict[str, Any]:
    """All that training sees of a catalogue, items and users by id."""
    sequences, ids = found.sequences, [item.item_id for item in found.items]
    counts_N = sequences.training_counts()
    vectors_ND = np.array([[ord(name), ord(name) ** 2] for name in ids], np.float64)
    vectors_ND[counts_N == 0] = np.nan
    mean_D, _ = fit(vectors_ND, np.flatnonzero(counts_N), "centre", 0.03)
    return {
        "sequences": {
            user: "".join(ids[i] for i in sequences.training(u))
            for u, user in enumerate(sequences.user_ids)
            if sequences.train_end[u]
        },
        "popularity": {ids[i]: int(counts_N[i]) for i in np.flatnonzero(counts_N)},
        "batches": batches(sequences, ids),
        "partners": partners(sequences, ids),
        "examples": examples(found),
        "pairs": pairs(found),
        "whitening": mean_D.round(9).tolist(),
    }


def held_out_and_kept(rows: list[Row], params: Any) -> tuple[Parts, list[Row], list[int]]:
    """The parts, the rows that the filters kept, and which of these are not training."""
    expected = parts(rows, params)
    assume(len(expected.training) > len({rows[n].user for n in expected.training}))  # somebody trains
    kept = expected.rows()
    return expected, [rows[n] for n in kept], [place for place, n in enumerate(kept) if n not in expected.training]


@pytest.mark.parametrize("cold_items", COLD)
@pytest.mark.parametrize("split_by", SPLITS)
@settings(max_examples=25, deadline=None)
@given(case=drawn_cases(), data=st.data())
def test_training_does_not_move_when_what_is_held_out_does(split_by, cold_items, case, data) -> None:
    rows, changes = case
    params = ingest_params("raw", **changes | {"split": split_by, "cold_items": cold_items})
    plain = params.model_copy(update=NO_FILTER)
    try:
        _, kept, held = held_out_and_kept(rows, params)
    except EmptyError:
        assume(False)
    assume(held)
    original = selected(rows, params)
    before = facing(original)
    assert facing(selected(kept, plain)) == before, "filtering twice is filtering once"

    out = held_out_items(params)
    others = {True: sorted(out), False: sorted(set(ITEMS) - out)}
    moved = list(kept)
    for place in held:
        item = data.draw(st.sampled_from(others[kept[place].item in out]), label="instead")
        moved[place] = kept[place]._replace(item=item)
    assert facing(quietly(moved, plain)) == before

    # A dropped choice of leave-one-out makes the one before it the held-out one; a cold choice may always go.
    may_go = held if split_by == "global_time" else [place for place in held if kept[place].item in out]
    gone = data.draw(st.sets(st.sampled_from(may_go))) if may_go else set()
    fewer = [row for place, row in enumerate(moved) if place not in gone]
    pinned = split.Moments(*original.moments.values()) if original.moments else None  # shares of fewer rows
    with mock.patch.object(split, "moments", lambda *_: pinned):
        assert facing(quietly(fewer, plain)) == before


def quietly(rows: list[Row], params: Any) -> Selected:
    """`selected`, although nothing may be left to ask."""
    with mock.patch.object(split, "refuse_unasked"):
        return selected(rows, params)


@pytest.mark.parametrize("cold_items", COLD)
@pytest.mark.parametrize("split_by", SPLITS)
@settings(max_examples=25, deadline=None)
@given(case=drawn_cases())
def test_no_held_out_choice_is_a_target_and_no_cold_item_is_anywhere(split_by, cold_items, case) -> None:
    rows, changes = case
    params = ingest_params("raw", **changes | {"split": split_by, "cold_items": cold_items})
    try:
        expected, _, _ = held_out_and_kept(rows, params)
    except EmptyError:
        assume(False)
    found = selected(rows, params)
    sequences, ids = found.sequences, [item.item_id for item in found.items]
    trained = Counter((rows[n].user, rows[n].item, rows[n].time) for n in expected.training)
    targets: Counter[tuple[str, str, int]] = Counter()
    for cut in epoch_batches(sequences, 3, 2, "windows", seed=0, epoch=0, overlap=1):
        for user, start, first, stop in cut:
            begin = sequences.offsets[user]
            times = sequences.timestamps[begin + first + 1 : begin + stop + 1].tolist()
            batch = collate(sequences, np.array([[user, start, first, stop]]))
            items = batch.targets_BL[batch.asked_BL].tolist()
            targets.update((sequences.user_ids[user], ids[i], t) for i, t in zip(items, times, strict=True))
    assert targets <= trained
    assert targets.total() == trained.total() - len({user for user, _, _ in trained})
    if split_by == "global_time":
        later = {(rows[n].user, rows[n].item, rows[n].time) for n in expected.validation + expected.test}
        assert max(time for _, _, time in trained) < min(time for _, _, time in later)
    cold = held_out_items(params) | {rows[n].item for n in expected.cold}
    seen = facing(found)
    for kind in seen["examples"].values():
        for item, prompt, answer in kind:
            shown = set(prompt) | {item} | {clause.split()[-1] for clause in answer}
            assert not shown & cold
    for kind in seen["pairs"].values():
        for item, one, other in kind:
            assert not {item, *one} & cold and not {clause.split()[-1] for clause in map(str, other)} & cold
    assert not cold & {item for _, _, inputs, targeted in seen["batches"] for item in inputs + targeted}
    assert not cold & (set("".join(seen["sequences"].values())) | set(seen["popularity"]))
    assert (found.cold.target >= sequences.num_warm).all()
    assert not cold & set(ids[: sequences.num_warm]), "no softmax has a cold item in its denominator"
    warm_trained = {item for _, item, _ in trained}
    assert set(seen["popularity"]) == warm_trained == {item for item, *_ in seen["examples"]["image_text"]}


def test_the_comparison_can_fail() -> None:
    """A training part that is one item too long shows in all that training sees."""
    rows = [Row("p", item, t, 5.0) for t, item in enumerate("abcdabed")] + [
        Row("q", "abab"[t], t, 5.0) for t in range(4)
    ]
    params = ingest_params("raw")
    found = selected(rows, params)
    leaky = Sequences(**vars(found.sequences) | {"train_end": found.sequences.train_end + 1})
    other = facing(Selected(found.items, leaky, found.cold, found.steps, found.moments))
    same = [name for name, value in facing(found).items() if other[name] == value]
    assert same == []
