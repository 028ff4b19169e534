import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.contrast import same_but_itself
from pipeline.recommender.alignment import Alignment


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
