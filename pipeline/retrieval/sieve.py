"""Ranking at the speed of a float32 product, in the order of `rank`'s exact scores.

A float32 product costs half of a float64 one but decides wrongly between scores that lie close together. Its error is
bounded, so it serves as a sieve: what is further from the line than the bound is decided by it, the few pairs in
between are scored again exactly (float64, rounded to float32), and a query with too many of them (ties without end,
vectors whose products overflow) is handed back as open, for the caller to rank the plain way.

Scores live in one reused buffer. Counting what is above a target takes it in tiles that stay in the processor's cache;
the best k take it as wide as `BUDGET` allows, and find them in two stages: the largest of each group of 64 items, then
the members of the best k groups. Candidates are gathered first, so that nothing else is ever multiplied.

Shapes: Q queries, B queries of a block, N items, M candidates, W items of a tile, D dimensions, P (query, item) pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.floating]

BUDGET = 1 << 26  # scores held at once by the best k (float32, 256 MiB),
FEWEST = 64  # but a product of fewer queries than this wastes its reading of the items: tiles get narrower instead
TILE = 1 << 12  # items of a tile while counting: 512 queries x 4,096 items are 8 MiB; a multiple of 512
GROUP = 64  # items whose largest score is looked at first
SLACK = 8  # fetched beyond k, so that the rounding bound is seldom met
PAIRS = 1 << 14  # pairs scored exactly at once
CLOSE = 1 / 64  # share of the candidates too close to the target to be worth telling apart one by one


def flat_rows(arrays: Sequence[NDArray[np.integer]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(row, value) pairs of a ragged list of arrays, both (sum of lengths,) int64: for indexing without a loop."""
    lengths = np.fromiter((len(a) for a in arrays), np.int64, len(arrays))
    values = np.concatenate([*arrays, np.empty(0, np.int64)]).astype(np.int64, copy=False)
    return np.repeat(np.arange(len(arrays)), lengths), values


def exact_scores(
    users_QD: torch.Tensor, items_ND: torch.Tensor, rows_P: torch.Tensor, columns_P: torch.Tensor
) -> torch.Tensor:
    """Dot products (P,) float32 of pairs, summed in float64 in one fixed order: equal vectors score equally."""
    scores_P = torch.empty(len(rows_P), dtype=torch.float32, device=users_QD.device)
    for start in range(0, len(rows_P), PAIRS):
        part = slice(start, start + PAIRS)
        scores_P[part] = (users_QD[rows_P[part]].double() * items_ND[columns_P[part]].double()).sum(1)
    return scores_P


def tensor(array: Floats, device: str = "cpu") -> torch.Tensor:
    """The array on a device; without a copy on a CPU where it is contiguous and may be written."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


class Sieve:
    """Queries and candidates ready to be ranked. `error_Q` bounds |float32 score - exact score| of each query."""

    def __init__(
        self,
        users_QD: Floats,
        items_ND: Floats,
        seen: Sequence[NDArray[np.integer]] | None,
        candidates: NDArray[np.bool_] | None,
        block: int,
        device: str,
    ) -> None:
        self.seen, self.block, self.device = seen, block, device
        self.ids_M: NDArray[np.int64] | None = None  # None: every item is a candidate
        if candidates is not None and not candidates.all():
            self.ids_M = np.flatnonzero(candidates)
            self.column_N = np.where(candidates, np.cumsum(candidates) - 1, -1)
            items_ND = items_ND[self.ids_M]
        self.users_QD, self.items_MD = tensor(users_QD, device), tensor(items_ND, device)
        self.users32_QD, self.items32_MD = self.users_QD.float(), self.items_MD.float()
        width = items_ND.shape[1]
        users_Q = self.users_QD.double().norm(dim=1) if width else self.users_QD.new_zeros(len(users_QD)).double()
        longest = max((float(part_WD.double().norm(dim=1).max()) for part_WD in self.items_MD.split(TILE)), default=0.0)
        # |float32 dot product - exact one| <= D * 2^-24 * |u| * |v| / (1 - D * 2^-24), for any order of summation; four
        # more for rounding vectors, the exact score and the line itself; twice that to be sure, and what underflows
        self.error_Q = 2 * (width + 4) * 2.0**-24 * longest * users_Q + width * 2.0**-126
        # a product that may overflow is no sieve, nor is one that torch was told to take in TF32 or bfloat16
        self.open_Q = users_Q * longest >= 2.0**126
        if torch.get_float32_matmul_precision() != "highest":
            self.open_Q |= True

    def columns(self, items: NDArray[np.integer]) -> NDArray[np.int64]:
        """Columns of items among the candidates, -1 for what is none."""
        columns: NDArray[np.int64] = np.asarray(items, np.int64)
        return columns if self.ids_M is None else self.column_N[columns]

    def tiles(self, queries: slice, scores_BW: torch.Tensor) -> Iterator[slice]:
        """Fill the buffer with the scores of one tile of candidates after the other and yield which ones they are.

        Seen items and what is past the last candidate have -inf.
        """
        rows_P, items_P = flat_rows([] if self.seen is None else self.seen[queries])
        columns_P = self.columns(items_P)
        order_P = np.argsort(columns_P, kind="stable")  # a tile's are then a slice
        rows_P, columns_P = rows_P[order_P], columns_P[order_P]
        width = scores_BW.shape[1]
        for start in range(0, len(self.items32_MD), width):
            stop = min(start + width, len(self.items32_MD))
            torch.mm(self.users32_QD[queries], self.items32_MD[start:stop].T, out=scores_BW[:, : stop - start])
            scores_BW[:, stop - start :] = -torch.inf
            first, last = np.searchsorted(columns_P, [start, stop])
            flat_P = rows_P[first:last] * width + columns_P[first:last] - start
            scores_BW.view(-1)[torch.from_numpy(flat_P).to(self.device)] = -torch.inf
            yield slice(start, stop)

    def blocks(self, width: int) -> Iterator[tuple[slice, torch.Tensor]]:
        """Blocks of queries, each with its (B, `width`) part of the one buffer."""
        rows = min(self.block, len(self.users_QD))
        buffer = torch.empty(rows * width, device=self.device)
        for start in range(0, len(self.users_QD), rows or 1):
            stop = min(start + rows, len(self.users_QD))
            yield slice(start, stop), buffer[: (stop - start) * width].view(stop - start, width)


def target_ranks(sieve: Sieve, targets_Q: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Ranks (Q,) int64 of the targets among what is not seen, and (Q,) which of them are still open.

    A target that is no candidate must be dealt with by the caller, as must one that was seen.
    """
    columns_Q = torch.from_numpy(sieve.columns(targets_Q)).to(sieve.device)
    every_Q = torch.arange(len(columns_Q), device=sieve.device)
    targets_Q1 = exact_scores(sieve.users_QD, sieve.items_MD, every_Q, columns_Q)[:, None]
    error_Q1 = sieve.error_Q[:, None]
    high_Q1, low_Q1 = (targets_Q1 + error_Q1).float(), (targets_Q1 - error_Q1).float()
    high_Q1[sieve.open_Q] = low_Q1[sieve.open_Q] = torch.inf
    ranks_Q = torch.zeros(len(columns_Q), dtype=torch.int64, device=sieve.device)
    limit = max(PAIRS >> 6, int(CLOSE * len(sieve.items_MD)))
    for queries, scores_BW in sieve.blocks(TILE):
        close_B = torch.zeros(len(scores_BW), dtype=torch.int64, device=sieve.device)
        high_B1, low_B1, found = high_Q1[queries], low_Q1[queries], []
        for tile in sieve.tiles(queries, scores_BW):
            above_B, rows_P, columns_P = _told_apart(scores_BW, low_B1, high_B1)
            ranks_Q[queries] += above_B
            close_B += torch.bincount(rows_P, minlength=len(close_B))
            found.append((rows_P, columns_P + tile.start))
            high_B1[close_B > limit] = low_B1[close_B > limit] = torch.inf  # open, and nothing more of it is looked at
        sieve.open_Q[queries] |= close_B > limit
        rows_P, columns_P = (torch.cat(parts) for parts in zip(*found, strict=True))
        kept_P = ~sieve.open_Q[queries][rows_P]
        rows_P, columns_P = rows_P[kept_P] + queries.start, columns_P[kept_P]
        scores_P, lines_P = exact_scores(sieve.users_QD, sieve.items_MD, rows_P, columns_P), targets_Q1[rows_P, 0]
        better_P = (scores_P > lines_P) | ((scores_P == lines_P) & (columns_P < columns_Q[rows_P]))
        ranks_Q += torch.bincount(rows_P[better_P], minlength=len(ranks_Q))
    return ranks_Q.cpu().numpy(), sieve.open_Q.cpu().numpy()


def top_k(sieve: Sieve, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """Items (Q, k) int32 and exact scores (Q, k) float32, best first (-1, -inf past the end); (Q,) open ones."""
    num_queries, candidates = len(sieve.users_QD), len(sieve.items_MD)
    items_QK = np.full((num_queries, k), -1, np.int32)
    scores_QK = np.full((num_queries, k), -np.inf, np.float32)
    take = min(k + SLACK, candidates)
    whole = -(-candidates // GROUP) * GROUP
    sieve.block = max(min(sieve.block, BUDGET // max(whole, 1)), min(sieve.block, FEWEST))
    for queries, scores_BW in sieve.blocks(min(whole, max(BUDGET // sieve.block // GROUP, 1) * GROUP)):
        best_BT = torch.full((len(scores_BW), 0), -torch.inf, device=sieve.device)
        columns_BT = torch.empty(best_BT.shape, dtype=torch.int64, device=sieve.device)
        for tile in sieve.tiles(queries, scores_BW):
            found_BT, at_BT = _largest(scores_BW, take)
            best_BT, columns_BT = torch.cat([best_BT, found_BT], 1), torch.cat([columns_BT, at_BT + tile.start], 1)
            best_BT, of_BT = best_BT.topk(min(take, best_BT.shape[1]), dim=1)
            columns_BT = columns_BT.gather(1, of_BT)
        real_BT = best_BT > -torch.inf
        rows_P, _ = real_BT.nonzero(as_tuple=True)
        exact_BT = torch.full_like(best_BT, -torch.inf)
        exact_BT[real_BT] = exact_scores(sieve.users_QD, sieve.items_MD, rows_P + queries.start, columns_BT[real_BT])
        here_BT, ids_BT = exact_BT.cpu().numpy(), columns_BT.cpu().numpy()
        order_BK = np.lexsort((ids_BT, -here_BT), axis=1)[:, :k]
        found_BK, at_BK = np.take_along_axis(here_BT, order_BK, axis=1), np.take_along_axis(ids_BT, order_BK, axis=1)
        kept = found_BK.shape[1]
        ids_BK = at_BK if sieve.ids_M is None else sieve.ids_M[np.minimum(at_BK, candidates - 1)]
        items_QK[queries, :kept] = np.where(found_BK > -np.inf, ids_BK, -1)
        scores_QK[queries, :kept] = found_BK
        if take < candidates:  # what was left out scores at most the last one fetched, and the error
            floor_B = best_BT[:, -1].double() + sieve.error_Q[queries]
            last_B = torch.from_numpy(found_BK[:, -1]).to(floor_B)
            sieve.open_Q[queries] |= (last_B <= floor_B) & (floor_B > -torch.inf)
    return items_QK, scores_QK, sieve.open_Q.cpu().numpy()


def _largest(scores_BW: torch.Tensor, take: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `take` largest scores of each row and their columns: (B, <= take). W is a multiple of GROUP."""
    rows, width = scores_BW.shape
    groups = width // GROUP
    if groups <= 2 * take:  # too few groups for a first stage to leave anything out
        found = scores_BW.topk(min(take, width), dim=1)
        return found.values, found.indices
    best_BT = scores_BW.view(rows, groups, GROUP).amax(2).topk(take, dim=1).indices
    columns_BC = (best_BT[:, :, None] * GROUP + torch.arange(GROUP, device=scores_BW.device)).view(rows, -1)
    found = scores_BW.gather(1, columns_BC).topk(take, dim=1)
    return found.values, columns_BC.gather(1, found.indices)


def _told_apart(
    scores_BW: torch.Tensor, low_B1: torch.Tensor, high_B1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """How many scores of each row lie above `high` (B,), and the pairs (P,), (P,) that lie from `low` to `high`.

    By numpy, which compares several times faster than torch on a CPU, and eight booleans at a time after that.
    """
    if scores_BW.is_cuda:
        return _told_apart_by_torch(scores_BW, low_B1, high_B1)
    scores = scores_BW.numpy()
    rows, width = scores.shape
    above_BC, reached_BC = (mask_BW.view(np.uint64) for mask_BW in (scores > high_B1.numpy(), scores >= low_B1.numpy()))
    # sixty-four words of eight bytes, each 0 or 1, add up without a carry
    above_B = above_BC.reshape(rows, -1, 64).sum(axis=2).view(np.uint8).sum(axis=1, dtype=np.int64)
    close_C = (above_BC ^ reached_BC).ravel()
    words_C = np.flatnonzero(close_C != 0)
    at_P, byte_P = np.nonzero(close_C[words_C].view(np.uint8).reshape(-1, 8))
    flat_P = words_C[at_P] * 8 + byte_P
    return torch.from_numpy(above_B), torch.from_numpy(flat_P // width), torch.from_numpy(flat_P % width)


def _told_apart_by_torch(
    scores_BW: torch.Tensor, low_B1: torch.Tensor, high_B1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    above_BW, reached_BW = scores_BW > high_B1, scores_BW >= low_B1
    rows_P, columns_P = (reached_BW & ~above_BW).nonzero(as_tuple=True)
    return above_BW.sum(1), rows_P, columns_P
