"""Every objective against its formula written as a double loop, in float64: value, gradients, temperature."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from pipeline.errors import MolarError
from pipeline.params.training import Objective as Params
from pipeline.recommender.negatives import Negatives
from pipeline.recommender.objective import Objective, full_softmax, positive_weight

COUNTS = np.array([5, 1, 0, 9, 2, 30, 3])
PARAMS = Params(
    kind="softmax", negatives=6, draw="popularity", drawn_per="batch", log_q=True, temperature=0.2, same=0.6,
    calibration=0.7,
)  # fmt: skip


def objective(counts=COUNTS, seed=1, **changes):
    return Objective(PARAMS.model_copy(update=changes), counts, seed).double()


def data(positions=9, dim=3):
    torch.manual_seed(0)
    users, table = (torch.randn(n, dim, dtype=torch.float64, requires_grad=True) for n in (positions, len(COUNTS)))
    return users, table, torch.tensor(np.flatnonzero(COUNTS))[torch.randint(0, np.count_nonzero(COUNTS), (positions,))]


def drawn_by(loss, targets, step):
    """(T, K) lists of items, and how often each was expected, told from the weights alone."""
    params = loss.params
    weights = COUNTS if params.draw == "popularity" else np.ones(len(COUNTS))
    if params.kind != "bce" and params.drawn_per == "batch":
        items = [loss.negatives.shared(params.negatives, step)[0].tolist()] * len(targets)
        totals = [weights.sum()] * len(targets)
    else:
        items = loss.negatives.own(targets, 1 if params.kind == "bce" else params.negatives, step)[0].tolist()
        totals = [weights.sum() - weights[target] for target in targets.tolist()]
    expected = [[params.negatives * weights[k] / total for k in row] for row, total in zip(items, totals, strict=True)]
    return items, expected


def by_hand(loss, users, table, targets, step):
    """One position and one negative at a time."""
    params, total = loss.params, torch.zeros((), dtype=torch.float64)
    if params.kind == "softmax":
        for user, target in zip(users, targets.tolist(), strict=True):
            total = total - torch.log(torch.exp(user @ table[target]) / sum(torch.exp(user @ item) for item in table))
        return total / len(users)
    items, expected = drawn_by(loss, targets, step)
    for t, target in enumerate(targets.tolist()):
        positive, against, others = users[t] @ table[target], [], []
        if params.kind == "nce":
            inverse = loss.log_scale.exp()
            positive = inverse * torch.cosine_similarity(users[t], table[target], dim=0)
        for k, often in zip(items[t], expected[t], strict=True):
            if k == target:
                continue
            score = users[t] @ table[k]
            against.append(torch.log(1 - torch.sigmoid(score)))
            if params.kind == "nce":
                if torch.cosine_similarity(table[target], table[k], dim=0) > params.same:
                    continue
                score = inverse * torch.cosine_similarity(users[t], table[k], dim=0)
            elif params.log_q:
                score = score - math.log(often)
            others.append(torch.exp(score))
        if params.kind in ("sampled", "nce"):
            total = total - torch.log(torch.exp(positive) / (torch.exp(positive) + sum(others)))
        elif params.kind == "bce":
            total = total - torch.log(torch.sigmoid(positive)) - sum(against)
        else:
            power = positive_weight(params.negatives, len(table), params.calibration)
            total = total - (torch.log(torch.sigmoid(positive) ** power) + sum(against)) / (params.negatives + 1)
    return total / len(users)


KINDS = ["softmax", "sampled", "sampled plain", "nce", "bce", "gbce"]


@pytest.mark.parametrize("draw", ["uniform", "popularity"])
@pytest.mark.parametrize("drawn_per", ["batch", "position"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_its_double_loop_with_gradients(kind, drawn_per, draw):
    kind, *plain = kind.split()
    loss = objective(kind=kind, drawn_per=drawn_per, draw=draw, log_q=not plain)
    users, table, targets = data()
    wanted = [users, table, *loss.parameters()]
    for step in range(3):
        fast, slow = loss(users, table, targets, step), by_hand(loss, users, table, targets, step)
        torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-8)  # log_expected is float32
        gradients = (torch.autograd.grad(value, wanted) for value in (fast, slow))
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_filter_of_nce_and_the_own_target_bite_in_these_cases():
    loss = objective(kind="nce")
    _, table, targets = data()
    items, _ = drawn_by(loss, targets, 0)
    alike = torch.cosine_similarity(table[targets][:, None], table[torch.tensor(items)], dim=-1) > 0.6
    own = torch.tensor(items) == targets[:, None]
    assert own.any() and (alike & ~own).any() and (~alike).any()


def test_sampled_with_every_other_item_is_the_full_softmax(monkeypatch):
    users, table, targets = data()
    loss = objective(kind="sampled", drawn_per="position", draw="uniform", negatives=6)
    others = torch.stack([torch.tensor([i for i in range(7) if i != target]) for target in targets.tolist()])
    monkeypatch.setattr(loss.negatives, "own", lambda *_: (others, torch.zeros(9, 6)))  # each is expected once
    torch.testing.assert_close(loss(users, table, targets, 0), full_softmax(users, table, targets))


@pytest.mark.parametrize("drawn_per", ["batch", "position"])
@pytest.mark.parametrize("draw", ["uniform", "popularity"])
def test_corrected_and_many_negatives_tend_to_the_softmax_whatever_is_popular(draw, drawn_per):
    users, table, targets = data()
    loss = objective(COUNTS + 1, kind="sampled", draw=draw, drawn_per=drawn_per, negatives=20_000)
    assert loss(users, table, targets, 0).item() == pytest.approx(full_softmax(users, table, targets).item(), rel=0.02)
    plain = objective(COUNTS + 1, kind="sampled", draw="popularity", negatives=20_000, log_q=False)
    assert plain(users, table, targets, 0) > 1.5 * full_softmax(users, table, targets)


def test_gbce_without_calibration_is_bce_and_one_shared_by_two():
    users, table, targets = data()
    bce, gbce = objective(kind="bce"), objective(kind="gbce", negatives=1, calibration=0.0, drawn_per="position")
    torch.testing.assert_close(gbce(users, table, targets, 0), bce(users, table, targets, 0) / 2)


def test_the_temperature_of_nce_is_learnt_within_its_bounds():
    users, table, targets = data()
    loss = objective(kind="nce")
    assert loss.log_scale.item() == pytest.approx(math.log(5))
    loss.log_scale.data.fill_(9.0)
    loss(users, table, targets, 0).backward()
    assert loss.log_scale.exp().item() == pytest.approx(100) and loss.log_scale.grad.abs() > 0


def test_negatives_are_never_the_target_and_as_frequent_as_their_weight():
    negatives, targets = Negatives("popularity", COUNTS, 0), torch.tensor([5, 3, 0, 5])
    drawn, _ = negatives.own(targets, 4000, 0)
    assert not (drawn == targets[:, None]).any() and not (drawn == 2).any()  # nobody chose item 2
    for row, target in zip(drawn.tolist(), targets.tolist(), strict=True):
        others = [i for i in np.flatnonzero(COUNTS) if i != target]
        found = Counter(row)
        expected = COUNTS[others] / COUNTS[others].sum() * 4000
        assert (np.abs([found[i] for i in others] - expected) < 4 * np.sqrt(expected)).all()
    uniform, _ = Negatives("uniform", COUNTS, 0).shared(7000, 0)
    assert (np.abs(np.bincount(uniform, minlength=7) - 1000) < 4 * np.sqrt(1000)).all()


def test_a_draw_follows_from_seed_and_step_and_leaves_torch_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    moments = ((0, 1), (0, 1), (0, 2), (1, 1))
    shared = [Negatives("uniform", COUNTS, seed).shared(20, step)[0] for seed, step in moments]
    own = [Negatives("uniform", COUNTS, seed).own(torch.tensor([1, 2]), 20, step)[0] for seed, step in moments]
    for first, again, step, seed in (shared, own):
        assert torch.equal(first, again) and not torch.equal(first, step) and not torch.equal(first, seed)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_to_compare_with_is_said():
    with pytest.raises(MolarError) as error:
        Negatives("popularity", np.array([3, 0]), 0)
    assert str(error.value) == "objective: negatives need two items with training interactions; use kind: softmax"


def test_full_softmax_in_blocks_has_the_plain_loss_s_gradients(monkeypatch):
    monkeypatch.setattr("pipeline.recommender.objective.CPU_BLOCK_LOGITS", 4 * 11)  # four positions a block, 26 in all
    monkeypatch.setattr("pipeline.recommender.objective.CPU_LEAST_ROWS", 1)
    torch.manual_seed(0)
    users, items, targets = torch.randn(26, 8), torch.randn(11, 8), torch.randint(0, 11, (26,))
    found = []
    for loss_of in (full_softmax, lambda u, v, t: torch.nn.functional.cross_entropy(u @ v.T, t)):
        inputs = users.clone().requires_grad_(), items.clone().requires_grad_()
        loss = loss_of(*inputs, targets)
        loss.backward()
        found.append((loss.detach(), inputs[0].grad, inputs[1].grad))
    for blocked, plain in zip(*found, strict=True):
        torch.testing.assert_close(blocked, plain)
