"""SASRec (Kang & McAuley, ICDM 2018): causal self-attention over a user's item vectors.

Differs from the paper in: GELU instead of ReLU, an inner width of 4 D, a norm on the input and (in objective.py) a full
softmax instead of one sampled negative, which decides more than the rest together. `norm` puts each sublayer's norm
before it (pre, as in today's language models) or after its residual (post, as RecBole's SASRec does): on small, dense
data post does better (docs/results.md).
Windows are left-aligned and padded on the right, so the causal mask alone keeps padding out of every real position.
Positions may be counted from either end of a window, as the paper's left-padded input does from the last: then the
place that is asked is one that every window trains, while counted from the start a long history ends where few do.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["pre", "post"]
End = Literal["start", "end"]


class Block(nn.Module):
    """Attention, then feed-forward, each with a residual and a norm (paper 3.2-3.3)."""

    def __init__(self, dim: int, heads: int, dropout: float, norm: Norm) -> None:
        super().__init__()
        self.heads, self.dropout, self.norm = heads, dropout, norm
        self.norm_attention, self.norm_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        if self.norm == "pre":
            x_BLD = x_BLD + self.attend(self.norm_attention(x_BLD))
            return x_BLD + self.transform(self.norm_forward(x_BLD))
        x_BLD = self.norm_attention(x_BLD + self.attend(x_BLD))
        return self.norm_forward(x_BLD + self.transform(x_BLD))

    def attend(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        drop = self.dropout if self.training else 0.0
        q, k, v = self.qkv(x_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed_BHLE = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
        return F.dropout(self.out(mixed_BHLE.transpose(1, 2).reshape(B, L, D)), drop)

    def transform(self, x_BLD: Tensor) -> Tensor:
        return F.dropout(self.narrow(F.gelu(self.wide(x_BLD))), self.dropout, self.training)


class SASRec(nn.Module):
    """Item vectors (B, L, D) and each row's last real position (B,) -> user vectors at every position (B, L, D)."""

    def __init__(
        self, dim: int, layers: int, heads: int, dropout: float, norm: Norm, count_from: End, max_history: int
    ) -> None:
        super().__init__()
        self.dim, self.count_from = dim, count_from
        self.position = nn.Parameter(torch.empty(max_history, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout, norm) for _ in range(layers))
        self.norm_in = nn.LayerNorm(dim)
        self.norm_out = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()  # post ends with a norm of its own
        nn.init.normal_(self.position, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, items_BLD: Tensor, last_B: Tensor, users_B: Tensor) -> Tensor:
        x_BLD = self.dropout(self.norm_in(items_BLD + self._positions(items_BLD.shape[1], last_B)))
        for block in self.blocks:
            x_BLD = block(x_BLD)
        return self.norm_out(x_BLD)

    def _positions(self, length: int, last_B: Tensor) -> Tensor:
        """(L, D), or (B, L, D) where rows differ; padding takes the last one."""
        if self.count_from == "start":
            return self.position[:length]
        before_end_BL = last_B[:, None] - torch.arange(length, device=last_B.device)
        return F.embedding(len(self.position) - 1 - before_end_BL.clamp(min=0), self.position)
