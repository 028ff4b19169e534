"""benchmarks/counting.py: its user vectors are the formula of its head, item by item; classes are shares."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.counting import CLASSES, Classes, Counts, Groups, soft

N, V, G = 7, 5, 3


@pytest.fixture
def table() -> Classes:
    torch.manual_seed(0)
    given_NC = torch.nn.functional.one_hot(torch.arange(N) % CLASSES, CLASSES).float()
    return Classes(Groups(("category",), content=1, ids=1), given_NC, torch.randn(N, 4), V)


def test_a_score_is_the_sum_over_groups_of_log_counts(table: Classes) -> None:
    model = Counts(table.dim)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 4)
        items_NC = table.everything()
        history = [1, 4, 1, 0]
        users_BLC = model(items_NC[torch.tensor([history])], torch.tensor([3]), torch.tensor([0]))
        classes_NGK = items_NC[:, :-1].reshape(N, G, CLASSES).tolist()
        for end in range(1, len(history) + 1):
            for item in range(N):
                expected = items_NC[item, -1].item()
                for g in range(G):
                    for k in range(CLASSES):
                        taste = model.last_G1[g].item() * classes_NGK[history[end - 1]][g][k]
                        for r, logit in enumerate(model.rates_R.tolist()):
                            rate = 1 / (1 + math.exp(-logit))
                            met = sum(rate ** (end - 1 - t) * classes_NGK[history[t]][g][k] for t in range(end))
                            prior = math.exp(model.priors_RG1[r, g].item())
                            taste += model.weights_RG1[r, g].item() * math.log(met + prior)
                        expected += classes_NGK[item][g][k] * taste
                found = (users_BLC[0, end - 1] @ items_NC[item]).item()
                assert found == pytest.approx(expected, abs=1e-4)


def test_classes_are_shares_and_a_new_item_has_none_of_its_own(table: Classes) -> None:
    items_NC = table.everything()
    assert torch.equal(items_NC[:V], table.trained())
    shares_NG = items_NC[:, :-1].unflatten(-1, (G, CLASSES)).sum(-1)
    torch.testing.assert_close(shares_NG, torch.ones(N, G))
    torch.testing.assert_close(items_NC[V:, 2 * CLASSES : 3 * CLASSES], torch.full((N - V, CLASSES), 1 / CLASSES))
    assert soft(torch.zeros(2, 0)).shape == (2, 0)
