import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contrast import same_but_itself
from pipeline.errors import MolarError
from pipeline.params.train_dueg import Alignment as Params
from pipeline.recommender.alignment import Aligned, Alignment, Queue, score_distillation
from pipeline.recommender.batches import collate, windows
from pipeline.recommender.grid import Spec, build
from pipeline.recommender.teacher import Frozen
from tests.recommender.worlds import cyclic


def naive(loss: Alignment, users, teacher, user_ids, targets) -> torch.Tensor:
    """The paper's formula, one pair at a time."""

    def similarity(i: int, j: int) -> torch.Tensor:  # teacher i, content j
        return torch.cosine_similarity(teacher[i], loss.adapter(users[j]), dim=0) / loss.temperature

    count, total = len(users), torch.zeros(())
    for u in range(count):
        allowed = [j for j in range(count) if j == u or (user_ids[j] != user_ids[u] and targets[j] != targets[u])]
        for direction in (lambda j, u=u: similarity(u, j), lambda j, u=u: similarity(j, u)):
            denominator = sum(torch.exp(direction(j)) for j in allowed)
            total = total - torch.log(torch.exp(direction(u)) / denominator)
    return total / count


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([0.07, 0.3, 1.0]))
def test_equals_the_papers_double_loop_with_gradients(count, seed, temperature):
    torch.manual_seed(seed)
    users, teacher = torch.randn(count, 5, requires_grad=True), torch.randn(count, 3)
    user_ids, targets = torch.randint(0, 4, (count,)), torch.randint(0, 4, (count,))
    loss = Alignment(5, 3, temperature)
    fast, slow = loss(users, teacher, user_ids, targets), naive(loss, users, teacher, user_ids, targets)
    assert math.isclose(fast.item(), slow.item(), rel_tol=1e-4, abs_tol=1e-5)
    grad_fast, grad_slow = (torch.autograd.grad(value, users, retain_graph=True)[0] for value in (fast, slow))
    torch.testing.assert_close(grad_fast, grad_slow, rtol=1e-3, atol=1e-5)


def test_same_user_and_same_target_are_no_negatives_of_each_other():
    masked = same_but_itself(torch.tensor([1, 1, 2, 3]), torch.tensor([7, 8, 8, 9]))
    expected = [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert masked.nonzero().tolist() == sorted([i, j] for i, j in expected)


def test_perfectly_aligned_vectors_lose_less_than_shuffled_ones():
    torch.manual_seed(0)
    loss, vectors = Alignment(4, 4, 0.1), torch.randn(8, 4)
    loss.adapter.weight.data, loss.adapter.bias.data = torch.eye(4), torch.zeros(4)
    ids = torch.arange(8)
    assert loss(vectors, vectors, ids, ids) < 0.1 * loss(vectors, vectors.roll(1, 0), ids, ids)


def gradients_agree(fast, slow, *inputs):
    torch.testing.assert_close(fast, slow)
    for ours, theirs in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def vectors(count, seed):
    torch.manual_seed(seed)
    users = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    return users, torch.randn(count, 3).double(), torch.randint(0, 6, (count,)), torch.randint(0, 6, (count,))


@pytest.mark.parametrize("size", [4, 50])
def test_a_queue_adds_what_earlier_batches_were_then_with_gradients(size):
    loss, earlier = Alignment(5, 3, 0.3, queue=size).double(), []
    for batch, count in enumerate((3, 6, 5)):
        users, teacher, ids, targets = vectors(count, batch)
        fast, total = loss(users, teacher, ids, targets), 0.0
        adapted = [loss.adapter(user) for user in users]
        pairs = [*zip(adapted, teacher, ids.tolist(), targets.tolist(), strict=True), *earlier[-size:]]
        for u in range(count):
            among = [p for n, p in enumerate(pairs) if n == u or (p[2] != pairs[u][2] and p[3] != pairs[u][3])]
            for side in (0, 1):
                one, own = pairs[u][1 - side], pairs[u][side]
                alike = [torch.exp(torch.cosine_similarity(one, p[side], dim=0) / 0.3) for p in among]
                total = total - torch.log(torch.exp(torch.cosine_similarity(one, own, dim=0) / 0.3) / sum(alike))
        gradients_agree(fast, total / count, users, loss.adapter.weight)
        earlier += [(a.detach(), t, i, j) for a, t, i, j in pairs[:count]]
        loss.adapter.weight.data += 0.1  # what is in the queue stays what it was


def test_an_empty_queue_is_no_queue():
    users, teacher, ids, targets = vectors(6, 0)
    torch.manual_seed(0)
    without = Alignment(5, 3, 0.3).double()
    torch.manual_seed(0)
    torch.testing.assert_close(
        Alignment(5, 3, 0.3, queue=7).double()(users, teacher, ids, targets), without(users, teacher, ids, targets)
    )


def test_the_queue_keeps_the_latest():
    queue = Queue(4, 1)
    for first, count in ((0, 3), (3, 3), (6, 9)):
        ids = torch.arange(first, first + count)
        queue.push(ids[:, None].float(), ids[:, None].float(), ids, ids + 100)
        latest = set(range(max(0, first + count - 4), first + count))
        assert set(queue.users_Q.tolist()) - {-1} == latest
        assert set(queue.targets_Q.tolist()) - {-1} == {i + 100 for i in latest}


def test_mse_and_cosine_equal_their_definitions_with_gradients():
    users, teacher, ids, targets = vectors(6, 0)
    for kind in ("mse", "cosine"):
        loss, total = Alignment(5, 3, 1.0, kind).double(), 0.0
        for user, theirs in zip(users, teacher, strict=True):
            ours = loss.adapter(user)
            apart = sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / 3
            total = total + (apart if kind == "mse" else 1 - ours @ theirs / (ours.norm() * theirs.norm()))
        gradients_agree(loss(users, teacher, ids, targets), total / 6, users, loss.adapter.weight)


def test_score_distillation_equals_its_definition_with_gradients():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6, dtype=torch.float64, requires_grad=True), torch.randn(4, 6).double()
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        p, q = (torch.exp(s / 0.5) / sum(torch.exp(s / 0.5)) for s in (theirs, ours))
        total = total + sum(p[i] * torch.log(p[i] / q[i]) for i in range(6))
    gradients_agree(score_distillation(student, teacher, 0.5), total / 4, student)


def aligned(**changes):
    defaults = {
        "weight": 2.0, "weight_warmup": 0.0, "kind": "infonce", "temperature": 0.3, "positions": "all", "queue": 0,
        "teacher": "ids", "subspace": None, "scored_items": 5,
    }  # fmt: skip
    made = []
    for factors, seed in ((4, 0), (3, 1)):
        spec = Spec(
            items="id", model="fpmc", num_items=12, num_trained=12, max_history=8, num_users=9, fpmc={"dim": factors}
        )
        torch.manual_seed(seed)
        made.append(build(spec, None, None))
    student, teacher = made
    return Aligned(Frozen(teacher), student, Params(**defaults | changes), seed=0), student


@pytest.mark.parametrize("kind", ["infonce", "mse", "cosine", "scores"])
def test_a_subspace_leaves_the_other_coordinates_free(kind):
    term, student = aligned(kind=kind, subspace=3)
    sequences = cyclic(9, 12)
    batch = collate(sequences, windows(sequences, 8, np.random.default_rng(0)))
    items = student.table.trained()
    users = student(batch.inputs_BL, batch.last_B, batch.users_B, items).detach().requires_grad_()
    loss, _ = term(batch, users, items, step=0)
    (gradient,) = torch.autograd.grad(loss, users)
    assert gradient[..., 3:].abs().sum() == 0 and gradient[..., 1:3].abs().sum() > 0
    if kind == "scores":
        assert torch.equal(loss, term(batch, users, items, step=0)[0]) and loss != term(batch, users, items, step=1)[0]


def test_alpha_grows_over_its_share_of_the_epochs():
    constant, growing = aligned()[0], aligned(weight_warmup=0.5)[0]
    moments = (0.0, 0.125, 0.5, 0.75)
    assert [constant.weight_at(done) for done in moments] == [2.0] * 4
    assert [growing.weight_at(done) for done in moments] == [0.0, 0.5, 2.0, 2.0]


def test_a_subspace_wider_than_the_user_vector_is_one_line():
    with pytest.raises(MolarError) as error:
        aligned(subspace=9)
    assert str(error.value) == "train_dueg.alignment.subspace = 9: user vectors have 8 coordinates"
