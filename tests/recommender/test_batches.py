from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.recommender.batches import collate, epoch_batches, padded, targets_in
from tests.recommender.worlds import sequences_of

histories = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    histories,
    st.integers(2, 8),
    st.integers(0, 7),
    st.integers(1, 5),
    st.sampled_from(["windows", "targets"]),
    st.integers(0, 3),
)
def test_every_training_transition_is_a_target_exactly_once_per_epoch(
    lists, max_history, overlap, batch_size, of, epoch
):
    overlap = min(overlap, max_history - 1)
    sequences = sequences_of(lists, 10)
    expected = Counter((u, place) for u in range(len(lists)) for place in range(1, len(sequences.training(u))))
    seen: Counter[tuple[int, int]] = Counter()
    for rows in epoch_batches(sequences, max_history, batch_size, of, 1, epoch, overlap):
        batch = collate(sequences, rows)
        held = batch.asked_BL.sum(1)
        assert batch.inputs_BL.shape[1] <= max_history
        assert len(held) <= batch_size if of == "windows" else held[:-1].sum() < batch_size
        for b, (user, start, _, _) in enumerate(rows):
            items = sequences.training(user)
            for place in batch.asked_BL[b].nonzero()[:, 0].tolist():
                assert batch.targets_BL[b, place] == items[start + place + 1]
                assert batch.inputs_BL[b, : place + 1].tolist() == items[start : start + place + 1].tolist()
                assert place >= min(overlap, start + place)  # what it sees before its own item, or all there is
                seen[user, start + place + 1] += 1
    assert seen == expected


def test_inputs_are_the_items_before_their_targets_and_padding_is_marked():
    sequences = sequences_of([[1, 2, 3, 4, 5, 6], [7, 8, 9, 1]], 10)  # training parts: 1 2 3 4 and 7 8
    batch = collate(sequences, np.array([[0, 0, 0, 3], [1, 0, 0, 1]]))
    assert batch.inputs_BL.tolist() == [[1, 2, 3], [7, 0, 0]]
    assert batch.targets_BL.tolist() == [[2, 3, 4], [8, 0, 0]]
    assert batch.real_BL.tolist() == [[True, True, True], [True, False, False]]
    assert batch.asked_BL.tolist() == batch.real_BL.tolist()
    assert batch.last_B.tolist() == [2, 0]


def test_what_a_window_reads_again_is_not_asked_again():
    sequences = sequences_of([[1, 2, 3, 4, 5, 6, 7]], 10)  # training part: 1 2 3 4 5
    batch = collate(sequences, np.array([[0, 0, 0, 2], [0, 1, 2, 4]]))
    assert batch.inputs_BL.tolist() == [[1, 2, 0], [2, 3, 4]]
    assert batch.asked_BL.tolist() == [[True, True, False], [False, True, True]]
    assert batch.targets_BL[batch.asked_BL].tolist() == [2, 3, 4, 5]


def test_a_history_that_fits_into_one_window_has_no_overlap():
    sequences = sequences_of([list(range(9))] * 3, 10)  # 7 training items
    rows = [epoch_batches(sequences, 6, 2, "windows", 0, 0, overlap) for overlap in (0, 5)]
    assert all((a == b).all() for a, b in zip(*rows, strict=True))


def test_epochs_depend_on_seed_and_epoch_alone():
    sequences = sequences_of([list(range(20))] * 5, 20)
    same, again, other = (epoch_batches(sequences, 6, 4, "windows", 0, epoch) for epoch in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(same, again, strict=True))
    assert any(a.shape != b.shape or (a != b).any() for a, b in zip(same, other, strict=False))


def test_padding_keeps_the_most_recent_items():
    items, last = padded([np.array([1, 2, 3, 4]), np.array([5]), np.array([], np.int64)], 3)
    assert items.tolist() == [[2, 3, 4], [5, 0, 0], [0, 0, 0]]
    assert last.tolist() == [2, 0, 0]


def test_batches_of_targets_weigh_every_target_alike():
    """A mean over a batch gives a target 1 / (targets in it): nearly the same for short and for long histories."""
    sequences = sequences_of([[0, 1, 2, 3, 4]] * 300 + [list(range(50))] * 30, 50)  # 2 and 47 targets a user
    held = {of: [] for of in ("windows", "targets")}
    for of, size in (("windows", 30), ("targets", 200)):
        for rows in epoch_batches(sequences, 60, size, of, seed=0, epoch=0):
            held[of].append(int(targets_in(rows).sum()))
    assert max(held["windows"]) / min(held["windows"]) > 20
    whole = [count for count in held["targets"] if count >= 200 - 47]
    assert len(whole) >= len(held["targets"]) - 2 and max(whole) < 200 + 47


def test_users_without_training_items_have_no_window_and_move_nobody_s_draw():
    sequences = sequences_of([list(range(20))] * 3, 20)
    later = sequences_of([list(range(20))] * 3 + [[1, 2, 3], [4]], 20)
    later.train_end[3:], later.valid_end[3:] = 0, [1, 0]
    same = zip(*(epoch_batches(of, 6, 4, "windows", 0, 0) for of in (sequences, later)), strict=True)
    assert all((a == b).all() for a, b in same)
