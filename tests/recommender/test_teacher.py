"""Whom an alignment follows: scores of a recommender, or of a sum at a scale that says how sure they are; frozen."""

import numpy as np
import pytest
import torch

from pipeline import artifacts
from pipeline.params import load_params
from pipeline.recommender import teacher as teachers
from pipeline.recommender.batches import collate, windows
from pipeline.recommender.dueg import assembled, content_alone
from pipeline.recommender.grid import save
from pipeline.recommender.score_sum import ScoreSum, Summed
from pipeline.recommender.teacher import SCALES, Frozen, SumTeacher, likeliest
from tests.conftest import ROOT
from tests.recommender.killed import killed_in_epoch
from tests.recommender.test_grid import WARM, WORLD, folder, sized, trained  # noqa: F401  (folder: a fixture)

PARAMS = load_params(ROOT / "params.yaml")
SCORES = {"kind": "scores", "teacher": "sum", "weight": 1.0, "temperature": 1.0, "positions": "all", "scored_items": 5}


def asked(items="id+mirm", model="sasrec", epochs=2, **alignment):
    """Section train_dueg, tiny, aligned with the sum."""
    aligned = PARAMS.train_dueg.alignment.model_copy(update=SCORES | alignment)
    training = PARAMS.train_dueg.training.model_copy(update={"max_epochs": epochs, "batch_size": 10})
    return sized(model, items=items, alignment=aligned, training=training)


@pytest.fixture
def teacher(folder, tmp_path):  # noqa: F811
    """The folder with an ID teacher beside embeddings and MIRM."""
    model, _, _ = trained(folder, tmp_path / "of_the_teacher", sized("gru4rec"), "id")
    with artifacts.write(tmp_path / "teacher") as out:
        save(model, out)
    return artifacts.read(tmp_path / "teacher", "train_teacher")


def made(folder, teacher, params, content=None):  # noqa: F811
    protocol = PARAMS.protocol.model_copy(update={"max_history": 8})
    read = {"embeddings": artifacts.read(folder / "embeddings", "embed_items"), "teacher": teacher}
    mirm = artifacts.Artifact(folder / "mirm", "finetune_mirm")
    return assembled(
        params, protocol, 0, WORLD, **read, mirm=mirm, device=torch.device("cpu"), content=content
    )  # fmt: skip


def last_users(teacher):
    """(B, E) of a batch of six windows, their histories and whose they are."""
    batch = collate(WORLD, windows(WORLD, 8, np.random.default_rng(0))[:6])
    users_BLE = teacher.users(batch)
    assert not users_BLE.requires_grad and not teacher.items_VE.requires_grad
    histories = [row[: last + 1].numpy() for row, last in zip(batch.inputs_BL, batch.last_B, strict=True)]
    return users_BLE[torch.arange(len(users_BLE)), batch.last_B], histories, batch.users_B.numpy()


@pytest.mark.parametrize("kind", ["softmax", "nce"])
def test_a_recommenders_scores_are_those_that_it_ranks_by(folder, tmp_path, kind):  # noqa: F811
    objective = PARAMS.train_dueg.objective.model_copy(update={"kind": kind, "negatives": 3})
    model, _, _ = trained(folder, tmp_path / "a", sized("sasrec", objective=objective), "mirm")
    teacher = Frozen(model)
    users_BE, histories, whose = last_users(teacher)
    wanted = model.user_vectors(histories, whose) @ model.item_vectors()[:WARM].T
    np.testing.assert_allclose(users_BE @ teacher.items_VE.T, wanted, rtol=1e-4, atol=1e-5)
    assert not any(weights.requires_grad for weights in model.parameters())


def test_a_sums_scores_are_the_sums_times_the_scale(folder, tmp_path):  # noqa: F811
    ids, _, _ = trained(folder, tmp_path / "a", sized("gru4rec"), "id")
    content, _, _ = trained(folder, tmp_path / "b", sized("sasrec"), "mirm")
    mix = ScoreSum(0.4, 0.7, 1.9, stretch=4.0)
    teacher = SumTeacher(ids, content, mix, scale=3.0)
    users_BE, histories, whose = last_users(teacher)
    summed = Summed(ids, content, mix)
    wanted = summed.user_vectors(histories, whose) @ summed.item_vectors()[:WARM].T
    np.testing.assert_allclose(users_BE @ teacher.items_VE.T, 3 * wanted, rtol=1e-4, atol=1e-5)
    assert not any(weights.requires_grad for model in (ids, content) for weights in model.parameters())


@pytest.mark.parametrize("true", [0.5, 2.0, 16.0])
def test_the_scale_is_the_one_that_choices_were_drawn_at(true):
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(4000, 4)).astype(np.float32), rng.normal(size=(9, 4)).astype(np.float32)
    chances = np.exp(true * (scores := users @ items.T) - (true * scores).max(axis=1, keepdims=True))
    chosen = np.array([rng.choice(9, p=row / row.sum()) for row in chances.astype(np.float64)])
    found = likeliest(users, items, chosen)
    assert found in SCALES and 2**-0.5 <= found / true <= 2**0.5


def test_the_scale_is_fitted_to_some_validation_choices_and_to_no_test_choice(folder, tmp_path, monkeypatch):  # noqa: F811
    ids, _, _ = trained(folder, tmp_path / "a", sized("gru4rec"), "id")
    content, _, _ = trained(folder, tmp_path / "b", sized("sasrec"), "mirm")
    seen = []
    monkeypatch.setattr(teachers, "ASKED", 7)
    monkeypatch.setattr(teachers, "likeliest", lambda *asked: seen.append(asked) or 2.0)
    teacher = teachers.fitted(WORLD, ids, content, False, seed=0)
    ((users, items, targets),) = seen
    validation = WORLD.queries("validation")
    assert len(users) == len(targets) == 7 and len(items) == WARM
    assert set(targets) <= set(validation.target) and teacher.scale == 2.0
    assert teacher.mix.weight == max(teacher.mix.validation, key=teacher.mix.validation.__getitem__)


def test_what_is_trained_first_knows_content_alone_and_has_no_teacher():
    first = content_alone(asked(second_token="teacher"))
    assert first.items == "mirm" and first.second_token == "none" and first.alignment.weight == 0
    assert first.training == asked().training and first.head == asked().head
    assert content_alone(asked(weight=0.0)) is None and content_alone(asked(teacher="ids")) is None


@pytest.mark.parametrize("items", ["id", "mirm", "id+mirm"])
def test_a_dueg_learns_from_the_sum_and_resumes(folder, teacher, tmp_path, items):  # noqa: F811
    params = asked(items, epochs=6, weight=10.0)
    first = made(folder, teacher, content_alone(params))
    first.train(params.training, tmp_path / "content")
    before = {name: weights.clone() for name, weights in first.model.state_dict().items()}
    whole = made(folder, teacher, params, first.model)
    curve = whole.train(params.training, tmp_path / "whole").curve
    assert curve[-1]["alignment"] < curve[0]["alignment"]
    assert all(torch.equal(weights, before[name]) for name, weights in first.model.state_dict().items())
    killed = made(folder, teacher, params, first.model)
    killed_in_epoch(2, lambda: killed.train(params.training, tmp_path / "killed"))
    again = made(folder, teacher, params, first.model)
    assert again.train(params.training, tmp_path / "killed").curve == curve
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))
