"""FPMC (Rendle, Freudenthaler & Schmidt-Thieme, WWW 2010): what a user likes plus what follows the last item.

    score(u, l, i) = <UI_u, IU_i> + <LI_l, IL_i>         for baskets of one item l; the paper's third pair, user and
                                                         last item, moves no rank and falls out there as well

An item's vector is IU and IL side by side, a user's is UI_u and LI_l: scores are dot products, as everywhere in the
grid. UI has to know whose history it reads, so users come alongside the vectors. It starts at zero, and so a user
without training items, and a history that is nobody's (`NOBODY`), have the Markov chain alone.

Differs from the paper in: LI_l = W [IU_l, IL_l] is a linear map of the last item's vector in place of a third table,
so that it runs over content vectors as over IDs; and in the loss, which is the objective's. The paper's S-BPR is
`kind: sampled` with one negative that positions do not share, and no correction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOBODY = -1  # the user row of a history that is no user's


class FPMC(nn.Module):
    """Item vectors (B, L, 2F) and user rows (B,) -> user vectors at every position (B, L, 2F), F being `dim`."""

    def __init__(self, dim: int, num_users: int) -> None:
        super().__init__()
        self.dim = 2 * dim
        self.likes = nn.Parameter(torch.zeros(1 + num_users, dim))  # UI; row 0 is nobody's and is never trained
        self.follows = nn.Linear(2 * dim, dim, bias=False)  # LI

    def forward(self, items_BLD: Tensor, last_B: Tensor, users_B: Tensor) -> Tensor:
        follows_BLF = self.follows(items_BLD)
        likes_BLF = F.embedding(users_B + 1, self.likes)[:, None].expand_as(follows_BLF)
        return torch.cat([likes_BLF, follows_BLF], dim=-1)
