"""GRU4Rec (Hidasi, Karatzoglou, Baltrunas & Tikk, ICLR 2016): a gated recurrent network over a user's item vectors.

    h_t  = (1 - z_t) h_{t-1} + z_t h^_t                  state (paper eq. 2)
    z_t  = sigma(W_z x_t + U_z h_{t-1})                  update gate (eq. 3)
    h^_t = tanh(W x_t + U (r_t * h_{t-1}))               candidate (eq. 4)
    r_t  = sigma(W_r x_t + U_r h_{t-1})                  reset gate (eq. 5)
    user vector = W_out h_t

Differs from the paper in: windows of whole histories in place of session-parallel mini-batches (every window starts
from a zero state), item vectors as input in place of one-hot ones, dropout on them, an output map back to the item
vectors' width, so that inputs and targets share a table, and objective.py's losses in place of TOP1: RecBole's choices,
whose gates have no biases either. torch's GRU resets after the product, r_t * (U h_{t-1}), and names 1 - z_t z_t.
"""

from __future__ import annotations

from torch import Tensor, nn


class GRU4Rec(nn.Module):
    """Item vectors (B, L, D) -> user vectors at every position (B, L, D). Time runs forward, so that no real position
    reads the padding on its right."""

    def __init__(self, dim: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(dim, hidden, layers, bias=False, batch_first=True)
        self.out = nn.Linear(hidden, dim)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)

    def forward(self, items_BLD: Tensor, last_B: Tensor, users_B: Tensor) -> Tensor:
        states_BLH, _ = self.gru(self.dropout(items_BLD))
        users_BLD: Tensor = self.out(states_BLH)
        return users_BLD
