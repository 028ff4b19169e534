import math

import numpy as np
import pytest
import torch

from pipeline.params.training import DuoRec, SASRec
from pipeline.recommender.batches import collate, windows
from pipeline.recommender.duorec import Partners, Views, spread, view_nce
from pipeline.recommender.grid import Spec, build
from tests.recommender.worlds import sequences_of

WORLD = sequences_of([[1, 2, 3, 4, 5, 6], [7, 3, 8, 2, 0], [2, 3, 9, 2, 0, 0], [5, 9, 1, 1]], 10)  # training: all but 2


def term(**weights):
    torch.manual_seed(0)
    sizes = SASRec(dim=8, layers=1, heads=2, dropout=0.3, norm="pre", count_from="start")
    spec = Spec(items="id", model="duorec", num_items=10, num_trained=10, max_history=4, sasrec=sizes)
    params = DuoRec(**{"unsupervised": 0.0, "supervised": 0.0, "cross": 0.0, "temperature": 0.5} | weights)
    return Views(build(spec, None, None), WORLD, params, seed=3)


def test_contrast_equals_its_definition_with_gradients():
    torch.manual_seed(0)
    one, two = (torch.randn(4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    z, total = [*one, *two], 0.0
    for i in range(8):
        others = sum(torch.exp(z[i] @ z[j] / 0.7) for j in range(8) if j != i)
        total = total - torch.log(torch.exp(z[i] @ z[(i + 4) % 8] / 0.7) / others)
    fast = view_nce(one, two, 0.7)
    torch.testing.assert_close(fast, total / 8)
    gradients = torch.autograd.grad(fast, (one, two)), torch.autograd.grad(total / 8, (one, two))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_partner_is_another_user_s_training_history_before_the_same_item():
    partners, found = Partners(WORLD, 4, seed=0), set()
    for step in range(50):
        histories, last, whose = partners.draw(torch.tensor([0, 1, 0, 3]), torch.tensor([3, 3, 2, 9]), step)
        found |= {(b, int(whose[b]), *histories[b, : last[b] + 1].tolist()) for b in range(4)}
    assert found == {
        (0, 1, 7),  # before 3, asked by user 0
        (0, 2, 2),
        (1, 0, 1, 2),  # before 3, asked by user 1
        (1, 2, 2),
        (2, 2, 2, 3, 9),  # before 2, whose occurrence as user 1's validation item is no training target
        (3, 2, 2, 3),  # before 9: user 3's own is never drawn
    }


def test_who_alone_chose_an_item_is_their_own_partner():
    alone = sequences_of([[1, 2, 3, 4, 5], [6, 7, 8, 9]], 10)
    histories, last, whose = Partners(alone, 4, seed=0).draw(torch.tensor([0]), torch.tensor([3]), 0)
    assert (whose.tolist(), histories[0, : last[0] + 1].tolist()) == ([0], [1, 2])


def test_partners_follow_from_seed_and_step():
    users, targets = torch.tensor([0] * 20), torch.tensor([3] * 20)
    draw = [Partners(WORLD, 4, seed).draw(users, targets, step)[2].tolist() for seed, step in ((0, 1), (0, 1), (0, 2))]
    assert draw[0] == draw[1] != draw[2]


def test_weights_choose_the_pairs_and_add_up():
    rows = windows(WORLD, 4, np.random.default_rng(0))
    batch = collate(WORLD, rows)

    def value(**weights):
        views = term(**weights)
        items = views.recommender.table.trained()
        users = views.recommender(batch.inputs_BL, batch.last_B, batch.users_B, items)
        torch.manual_seed(7)
        return views(batch, users, items, step=0)

    unsupervised, figures = value(unsupervised=1.0)
    supervised, _ = value(supervised=1.0, unsupervised=1e-12)  # both passes, so that the same units are dropped
    both, _ = value(supervised=0.5, unsupervised=2.0)
    assert both.item() == pytest.approx(2 * unsupervised.item() + supervised.item() / 2, rel=1e-5)
    cross, _ = value(cross=1.0)
    assert cross.item() not in (unsupervised.item(), supervised.item())
    assert set(figures) == {"views_alignment", "views_uniformity"}


def test_spread_is_mean_distance_of_twins_and_evenness_of_all():
    one, two = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [3.0, 7.0]])
    assert spread(one, two, one) == (pytest.approx(2.0), pytest.approx(math.log(math.exp(-2 * 5.0))))
    assert spread(one[:1], two[:1], one[:1]) == (pytest.approx(1.0), 0.0)
