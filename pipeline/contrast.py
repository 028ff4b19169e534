"""Symmetric InfoNCE: of two views of the same things, each should find its own twin among all others.

    L = - 1/T sum_t [ log exp(s(a_t, b_t)/tau) / sum_j exp(s(a_t, b_j)/tau) + the same from b to a ],   s = cosine

Post-alignment (paper 3.4) and contrastive fine-tuning are this loss over different views.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def symmetric_info_nce(one_TD: Tensor, other_TD: Tensor, no_negatives_TT: Tensor, temperature: float) -> Tensor:
    """Both directions, each a mean over T, added up; a scalar. `no_negatives_TT` (bool): pairs that do not count."""
    similarity_TT = F.normalize(one_TD, dim=-1) @ F.normalize(other_TD, dim=-1).T / temperature
    similarity_TT = similarity_TT.masked_fill(no_negatives_TT, float("-inf"))
    own_T = torch.arange(len(one_TD), device=one_TD.device)
    return F.cross_entropy(similarity_TT, own_T) + F.cross_entropy(similarity_TT.T, own_T)


def same_but_itself(*keys_T: Tensor) -> Tensor:
    """(T, T) bool: pairs that share any of the keys (T,), the diagonal (the positives) excepted."""
    same_TT = torch.zeros(len(keys_T[0]), len(keys_T[0]), dtype=torch.bool, device=keys_T[0].device)
    for key_T in keys_T:
        same_TT |= key_T[:, None] == key_T
    return same_TT.fill_diagonal_(False)
