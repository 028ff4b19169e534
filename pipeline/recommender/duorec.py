"""DuoRec (Qiu, Huang, Yin & Wang, WSDM 2022): SASRec whose user vectors are spread out by contrast between views.

Of each window of a batch, after its last position, three views of what the user wants next:

    h     the vector that the recommendation loss reads
    h'    the same history with other units dropped                               (unsupervised view)
    h+    the history of another user, drawn at random, who chose the same next item    (supervised view)

    loss = unsupervised NCE(h, h') + supervised NCE(h, h+) + cross NCE(h', h+)

The paper's model is `cross` alone at .1 (the released `us_x`); `us`, `un` and `su` are the other weights. NCE is over
the batch: of all 2 B vectors, either view should find its twin among the 2 (B - 1) others; dot products over the
temperature. As the released code has it, nobody is left out of the others, same target or not.

Reported, never trained on, as in the released code: how far the pair of views lies apart (alignment, mean distance) and
how evenly the h lie (uniformity, log mean exp(-2 distance)); lower is better for both.

Differs from the paper in: windows whose every position is trained on, in place of one row per prefix, of which the last
position is contrasted; another user's history in place of any other row with the same target, and one's own where
nobody else chose that item. Those are looked up in the sequences at hand, never in a file that another data set left.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.catalog.catalogue import Sequences
from pipeline.params.training import DuoRec as DuoRecParams
from pipeline.recommender.batches import Batch, padded
from pipeline.recommender.grid import Recommender

PARTNERS = 2  # of (seed, step, this): a stream of its own beside the batches' and the negatives'


class Views:
    """The contrast as a term of the loss of `recommender`, whose passes it repeats on the same item vectors."""

    name = "views"
    module = None
    weight = 1.0  # the pairs have weights of their own

    def __init__(self, recommender: Recommender, sequences: Sequences, params: DuoRecParams, seed: int) -> None:
        self.recommender, self.params = recommender, params
        self.partners = Partners(sequences, recommender.spec.max_history, seed)

    def weight_at(self, done: float) -> float:
        return self.weight

    def __call__(self, batch: Batch, users_BLD: Tensor, items_VD: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        rows, params = torch.arange(len(users_BLD), device=users_BLD.device), self.params
        one_BD = users_BLD[rows, batch.last_B]
        dropped_BD = other_BD = one_BD
        if params.unsupervised or params.cross:
            again_BLD = self.recommender(batch.inputs_BL, batch.last_B, batch.users_B, items_VD)
            dropped_BD = again_BLD[rows, batch.last_B]
        if params.supervised or params.cross:
            inputs_BL, last_B, users_B = (
                part.to(rows.device)
                for part in self.partners.draw(batch.users_B.cpu(), batch.targets_BL[rows, batch.last_B].cpu(), step)
            )
            other_BD = self.recommender(inputs_BL, last_B, users_B, items_VD)[rows, last_B]
        loss = one_BD.new_zeros(())
        pair = one_BD, one_BD
        for weight, one, two in (
            (params.unsupervised, one_BD, dropped_BD),
            (params.supervised, one_BD, other_BD),
            (params.cross, dropped_BD, other_BD),
        ):
            if weight:
                loss, pair = loss + weight * view_nce(one, two, params.temperature), (one, two)
        alignment, uniformity = spread(*pair, one_BD)
        return loss, {"views_alignment": alignment, "views_uniformity": uniformity}


def view_nce(one_BD: Tensor, two_BD: Tensor, temperature: float) -> Tensor:
    """Mean over 2 B rows of -log exp(z_i z_twin / t) / sum_{j != i} exp(z_i z_j / t); a scalar."""
    z_ZD = torch.cat([one_BD, two_BD])
    itself_ZZ = torch.eye(len(z_ZD), dtype=torch.bool, device=z_ZD.device)
    similarity_ZZ = (z_ZD @ z_ZD.T / temperature).masked_fill(itself_ZZ, float("-inf"))
    return F.cross_entropy(similarity_ZZ, torch.arange(len(z_ZD), device=z_ZD.device).roll(len(one_BD)))


@torch.no_grad()
def spread(one_BD: Tensor, two_BD: Tensor, origin_BD: Tensor) -> tuple[float, float]:
    """(alignment, uniformity); a batch of one window has no pairs and lies as unevenly as can be (0)."""
    apart_P = torch.pdist(origin_BD)
    uniformity = torch.exp(-2 * apart_P).mean().log().item() if len(apart_P) else 0.0
    return (one_BD - two_BD).norm(dim=-1).mean().item(), uniformity


class Partners:
    """Finds another user's history before the same next item, among training transitions alone."""

    def __init__(self, sequences: Sequences, max_history: int, seed: int) -> None:
        self.sequences, self.max_history, self.seed = sequences, max_history, seed
        counts_U = np.maximum(np.asarray(sequences.train_end, np.int64) - 1, 0)
        user_T = np.repeat(np.arange(len(sequences)), counts_U)
        end_T = np.arange(len(user_T)) - np.repeat(np.cumsum(counts_U) - counts_U, counts_U) + 1
        target_T = sequences.items[sequences.offsets[user_T] + end_T]
        order = np.lexsort((user_T, target_T))  # by target, a user's own transitions side by side
        self.user_T, self.end_T = user_T[order], end_T[order]
        self._key_T = self._key(target_T[order], self.user_T)

    def draw(self, users_B: Tensor, targets_B: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the same target: histories (B, L), their last real positions (B,) and whose they are (B,)."""
        users, targets = users_B.numpy(), targets_B.numpy()
        rng = np.random.default_rng([self.seed, step, PARTNERS])
        start_B, stop_B = np.searchsorted(self._key_T, [self._key(targets, 0), self._key(targets + 1, 0)])
        own_B, past_own_B = np.searchsorted(self._key_T, [self._key(targets, users), self._key(targets, users + 1)])
        others_B = (stop_B - start_B) - (past_own_B - own_B)
        drawn_B = start_B + rng.integers(0, np.maximum(others_B, 1))
        drawn_B = np.where(drawn_B >= own_B, drawn_B + past_own_B - own_B, drawn_B)
        drawn_B = np.where(others_B > 0, drawn_B, own_B)
        whose_B, end_B = self.user_T[drawn_B], self.end_T[drawn_B]
        histories = [self.sequences.history(user, end) for user, end in zip(whose_B, end_B, strict=True)]
        return *padded(histories, self.max_history), torch.from_numpy(whose_B)

    def _key(self, targets: np.ndarray, users: np.ndarray | int) -> np.ndarray:
        return targets.astype(np.int64) * (len(self.sequences) + 1) + users
