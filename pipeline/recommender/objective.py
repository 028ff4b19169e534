"""The recommendation loss: cross-entropy of the next item over every trained item, at every position.

L = - 1/T sum_t log softmax(u_t . E)[target_t], u_t the user vector at a real position t, E (V, D) the item table.
It stands in for the paper's binary cross-entropy with one negative (3.4): Klenitskiy & Vasilev (RecSys 2023)
and others measured +36 % NDCG@10 for the same encoder on MovieLens-1M.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def full_softmax(users_TD: Tensor, items_VD: Tensor, targets_T: Tensor) -> Tensor:
    """Mean cross-entropy over T positions; a scalar."""
    return F.cross_entropy(users_TD @ items_VD.T, targets_T)
