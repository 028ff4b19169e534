import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.artifacts import read, write
from pipeline.errors import MolarError
from pipeline.params.train_dueg import Alignment
from pipeline.params.training import Objective, SASRec, Training
from pipeline.recommender import fit as fitting
from pipeline.recommender import objective as objectives
from pipeline.recommender.alignment import Aligned
from pipeline.recommender.fit import fit, write_facts
from pipeline.recommender.grid import Spec, build, load_recommender, save
from pipeline.recommender.teacher import Frozen
from tests.recommender.killed import killed_in_epoch
from tests.recommender.worlds import cyclic, sequences_of

TRAINING = Training(
    learning_rate=1e-2, weight_decay=0.0, batch_size=16, batch_of="windows", overlap=0,
    max_epochs=6, patience=6, warmup_steps=2, clip_norm=1.0, average_epochs=0.5,
)  # fmt: skip


SOFTMAX = Objective(
    kind="softmax", negatives=4, draw="uniform", drawn_per="batch", log_q=True, temperature=0.1, same=0.99,
    calibration=0.75,
)  # fmt: skip


def objective_of(sequences, params, seed):
    return objectives.Objective(params, sequences.training_counts()[: sequences.num_warm], seed)


def recommender(sequences, seed=0, dim=16):
    torch.manual_seed(seed)
    spec = Spec(
        items="id", model="sasrec", num_items=sequences.num_items, num_trained=sequences.num_warm, max_history=8,
        sasrec=SASRec(dim=dim, layers=1, heads=2, dropout=0.1, norm="pre", count_from="start"),
    )  # fmt: skip
    return build(spec, None, None)


def train(sequences, scratch: Path, training=TRAINING, alignment=None, seed=0, objective=SOFTMAX):
    """A model trained from scratch; `alignment` is made of it."""
    scratch.mkdir(parents=True, exist_ok=True)
    model = recommender(sequences, seed)
    terms = [alignment(model)] if alignment else []
    state = fit(
        model, sequences, training, seed=seed, mask_seen=False, scratch=scratch, terms=terms,
        objective=objective_of(sequences, objective, seed),
    )  # fmt: skip
    return model, state


def digest(model) -> str:
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in model.state_dict().values())).hexdigest()


def alignment(sequences, **changes):
    """student -> Aligned with one and the same random teacher."""
    teacher = recommender(sequences, seed=9, dim=8).eval()
    defaults = {
        "weight": 1.0, "weight_warmup": 0.0, "kind": "infonce", "temperature": 0.3, "positions": "last", "queue": 0,
        "teacher": "ids", "subspace": None, "scored_items": 8,
    }  # fmt: skip
    return lambda student: Aligned(Frozen(teacher), student, Alignment(**defaults | changes), seed=0)


def test_a_certain_next_item_is_learnt(tmp_path):
    _, state = train(cyclic(80, 12), tmp_path)
    assert state.best_ndcg > 0.9
    assert state.curve[-1]["loss"] < 0.3 * state.curve[0]["loss"]


@pytest.mark.parametrize("kind", ["sampled", "nce", "bce", "gbce"])
def test_every_objective_learns_a_certain_next_item(tmp_path, kind):
    longer = TRAINING.model_copy(update={"max_epochs": 12, "patience": 12})
    objective = SOFTMAX.model_copy(update={"kind": kind, "drawn_per": "position"})
    _, state = train(cyclic(80, 12), tmp_path, longer, objective=objective)
    assert state.best_ndcg > 0.85


@pytest.mark.parametrize("with_alignment", [False, True])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path, with_alignment):
    sequences = cyclic(40, 12)

    def training(scratch):
        kind, aligned = ("nce", alignment(sequences, queue=20)) if with_alignment else ("softmax", None)
        return train(sequences, scratch, alignment=aligned, objective=SOFTMAX.model_copy(update={"kind": kind}))

    undisturbed, _ = training(tmp_path / "a")
    killed_in_epoch(3, lambda: training(tmp_path / "b"))
    resumed, state = training(tmp_path / "b")
    assert state.epoch == TRAINING.max_epochs and len(state.curve) == TRAINING.max_epochs
    assert digest(resumed) == digest(undisturbed)


def test_alignment_changes_training_and_leaves_the_teacher_alone(tmp_path):
    sequences = cyclic(40, 12)
    made = []
    pulled, state = train(
        sequences, tmp_path / "b", alignment=lambda model: made.append(alignment(sequences)(model)) or made[0]
    )
    plain, _ = train(sequences, tmp_path / "a")
    assert digest(plain) != digest(pulled)
    assert digest(made[0].teacher.model) == digest(recommender(sequences, seed=9, dim=8))
    assert state.curve[-1]["alignment"] < state.curve[0]["alignment"]


@pytest.mark.parametrize("kind", ["infonce", "mse", "cosine", "scores"])
@pytest.mark.parametrize("positions", ["last", "all"])
def test_alpha_zero_is_the_unaligned_model_to_the_bit(tmp_path, positions, kind):
    sequences, three_epochs = cyclic(40, 12), TRAINING.model_copy(update={"max_epochs": 3})
    plain, without = train(sequences, tmp_path / "a", three_epochs)
    of = alignment(sequences, weight=0.0, positions=positions, kind=kind, queue=9)
    model, state = train(sequences, tmp_path / "b", three_epochs, alignment=of)
    assert state.curve == without.curve and digest(model) == digest(plain)


@pytest.mark.parametrize("kind", ["mse", "cosine", "scores"])
def test_every_kind_of_alignment_brings_the_two_together(tmp_path, kind):
    sequences = cyclic(40, 12)
    _, state = train(sequences, tmp_path, alignment=alignment(sequences, kind=kind, weight=10.0))
    assert state.curve[-1]["alignment"] < state.curve[0]["alignment"]


def test_the_best_epoch_is_kept_not_the_last(tmp_path, monkeypatch):
    sequences = cyclic(40, 12)
    scripted = iter([0.1, 0.5, 0.2, 0.1])
    digests = []
    monkeypatch.setattr(fitting, "validate", lambda model, *_: (digests.append(digest(model)) or next(scripted), 0.0))
    model, state = train(sequences, tmp_path, TRAINING.model_copy(update={"patience": 2}))
    assert (state.epoch, state.best_epoch) == (4, 2)
    assert digest(model) == digests[1]


def test_a_diverging_loss_stops_with_epoch_and_step(tmp_path):
    sequences = cyclic(40, 12)
    model = recommender(sequences)
    model.table.weight.data[0] = float("inf")
    with pytest.raises(MolarError) as error:
        fit(
            model, sequences, TRAINING, seed=0, mask_seen=False, scratch=tmp_path, description="teacher",
            objective=objective_of(sequences, SOFTMAX, 0),
        )  # fmt: skip
    assert str(error.value) == (
        "teacher: the loss is nan at epoch 1, step 1: lower training.learning_rate (0.01) or clip_norm (1)"
    )


def test_nothing_to_learn_is_said(tmp_path):
    with pytest.raises(MolarError, match="no user has two training interactions"):
        train(sequences_of([[0], [1, 2, 3]], 4), tmp_path)


def test_nothing_to_validate_on_is_said_before_training(tmp_path):
    with pytest.raises(MolarError, match="validation has no choice to ask"):
        train(sequences_of([[0, 1], [1, 2], [2, 0]], 3), tmp_path)


def test_a_moment_in_time_is_a_seed(tmp_path):
    _, state = train(cyclic(10, 6), tmp_path, TRAINING.model_copy(update={"max_epochs": 1}), seed=20240101120000)
    assert state.epoch == 1


def test_users_of_later_parts_alone_are_validated_on_and_not_trained_on(tmp_path):
    sequences = cyclic(30, 12)
    later = sequences_of([sequences.history(u).tolist() for u in range(30)] + [[0, 1, 2, 3]] * 4, 12)
    later.train_end[30:], later.valid_end[30:] = 0, 3
    one_epoch = TRAINING.model_copy(update={"max_epochs": 1})
    plain, alone = train(sequences, tmp_path / "a", one_epoch)
    model, state = train(later, tmp_path / "b", one_epoch)
    assert digest(plain) == digest(model)
    assert state.curve[0]["loss"] == alone.curve[0]["loss"] and state.best_ndcg != alone.best_ndcg


def test_saved_and_loaded_recommenders_give_the_same_vectors(tmp_path):
    sequences = cyclic(30, 12)
    cold = sequences_of([[0, 1, 2, 3]], 14, num_warm=12)
    model = recommender(cold)
    _, state = train(sequences, tmp_path / "scratch", TRAINING.model_copy(update={"max_epochs": 1}))
    with write(tmp_path / "teacher") as out:
        save(model, out)
        write_facts(out, state)
    loaded = load_recommender(read(tmp_path / "teacher", "train_teacher"), None)
    histories = [np.array([1, 2]), np.arange(12), np.array([3])]
    np.testing.assert_array_equal(loaded.user_vectors(histories), model.user_vectors(histories))
    np.testing.assert_array_equal(loaded.item_vectors(), model.item_vectors())
    assert loaded.rankable.tolist() == [True] * 12 + [False] * 2
    assert (tmp_path / "teacher" / "curve.tsv").read_text().splitlines()[0] == "epoch\tloss\tndcg@10\trecall@10"


def test_user_vectors_do_not_depend_on_the_company(tmp_path):
    model = recommender(cyclic(5, 12))
    histories = [np.arange(n) % 12 for n in (1, 3, 8, 20)]
    together = model.user_vectors(histories)
    alone = np.concatenate([model.user_vectors([h]) for h in histories])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)
