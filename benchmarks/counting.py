"""What separates the models from the ceiling: a user model that counts, over classes of items, known or learned.

    python -m benchmarks.counting                   after `dvc repro` of the demo world; a CPU minute a row
    python -m benchmarks.counting --only "classes of content, of IDs" --seeds 0 --seeds 1 --seeds 2
    MOLAR_REAL_DATA=... python -m benchmarks.counting --real ml-100k        classes of IDs alone, on real choices

Each item belongs, softly, to one class of each of some groups; a user is how often each class was met, lately and ever:

    score(u, i) = b_i + sum_g sum_k z_igk ( c_g z_last,gk + sum_r a_gr log(n_ugkr + l_gr) )
    n_ugkr      = sum_t rate_r^age z_{i_t}gk                      decayed counts, three rates of forgetting

n + l is, up to a factor, the posterior mean of a Dirichlet prior after such counts. That is much of the world's process
in a model's form, so it is a probe of what the data tell, and not a system of the paper. An item's classes are

    given     one-hot factors of data/world, which no model may read: how far a dozen weights go that know them
    content   softmax of a linear map of the conditioned embedding: new items have them as well
    ids       softmax of trained logits, an item's own; uniform for new items

Trained by the pipeline's loop, chosen on validation. Shape suffixes: G groups, K classes of a group, C = G K columns,
R rates, F features.
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from benchmarks.teacher import preset_params, real_sequences, tested
from pipeline import artifacts
from pipeline.catalog.catalogue import Queries, Sequences, open_cold, open_items, open_sequences
from pipeline.mirm.shards import conditioned
from pipeline.params import Params, load_params
from pipeline.recommender.fit import Progress, fit
from pipeline.recommender.grid import Recommender, spec_of
from pipeline.recommender.objective import Objective
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.rank import target_ranks
from pipeline.world.oracle import open_truth
from pipeline.world.process import FACTORS
from stages.paths import CATALOG, EMBEDDINGS, WORLD

CLASSES = 10  # of a group; as many as the factor of most values has
RATES = (6.0, 2.2, 0.85)  # logits of what an event's weight is multiplied by at each later one: 1, .9, .7
TRAINING = {  # chosen on the demo world's validation, classes of content and of IDs
    "learning_rate": 3e-2,
    "weight_decay": 0.3,
    "batch_size": 128,
    "batch_of": "windows",
    "max_epochs": 40,
    "patience": 8,
}
VISIBLE = ("category", "colour", "shape", "brand")


@dataclass(frozen=True)
class Groups:
    """Where an item's classes come from: factors given by name, and how many groups of content's and of its own."""

    given: tuple[str, ...] = ()
    content: int = 0
    ids: int = 0


ROWS = {
    "visible factors given": Groups(VISIBLE),
    "all factors given": Groups((*VISIBLE, "community")),
    "visible factors given, classes of IDs": Groups(VISIBLE, ids=1),
    "classes of IDs": Groups(ids=5),
    "classes of content": Groups(content=4),
    "classes of content, of IDs": Groups(content=4, ids=1),
}


class Classes(nn.Module):
    """Item table: (N, G K + 1), the classes of each group and a bias, which is the item's own plus its content's."""

    def __init__(self, groups: Groups, given_NC: Tensor, features_NF: Tensor, num_trained: int) -> None:
        super().__init__()
        self.num_items, self.num_trained, self.groups = len(given_NC), num_trained, groups
        self.dim = (len(groups.given) + groups.content + groups.ids) * CLASSES + 1
        self.register_buffer("given_NC", given_NC)
        self.register_buffer("features_NF", features_NF)
        if groups.content:
            self.content = nn.Linear(features_NF.shape[1], groups.content * CLASSES + 1)
            nn.init.normal_(self.content.weight, std=1 / math.sqrt(features_NF.shape[1]))
        self.ids = nn.Parameter(torch.randn(num_trained, groups.ids * CLASSES + 1))
        with torch.no_grad():
            self.ids[:, -1] = 0

    def trained(self) -> Tensor:
        return self._rows(self.num_trained, self.ids)

    def everything(self) -> Tensor:
        return self._rows(self.num_items, nn.functional.pad(self.ids, (0, 0, 0, self.num_items - self.num_trained)))

    def _rows(self, rows: int, ids: Tensor) -> Tensor:
        parts = [self.given_NC[:rows]]
        bias = ids[:, -1:]
        if self.groups.content:
            content = self.content(self.features_NF[:rows])
            parts.append(soft(content[:, :-1]))
            bias = bias + content[:, -1:]
        return torch.cat([*parts, soft(ids[:, :-1]), bias], dim=1)


def soft(logits: Tensor) -> Tensor:
    """A softmax within each group of (..., G K)."""
    return logits.unflatten(-1, (-1, CLASSES)).softmax(-1).flatten(-2) if logits.shape[-1] else logits


class Counts(nn.Module):
    """User model: item vectors (B, L, G K + 1) -> user vectors at every position (B, L, G K + 1)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, groups = dim, (dim - 1) // CLASSES
        self.rates_R = nn.Parameter(torch.tensor(RATES))
        self.priors_RG1 = nn.Parameter(torch.full((len(RATES), groups, 1), -1.0))
        self.weights_RG1 = nn.Parameter(torch.full((len(RATES), groups, 1), 0.4))
        self.last_G1 = nn.Parameter(torch.zeros(groups, 1))

    def forward(self, items_BLD: Tensor, last_B: Tensor, users_B: Tensor) -> Tensor:
        classes_BLGK = items_BLD[..., :-1].unflatten(-1, (-1, CLASSES))
        places_L = torch.arange(items_BLD.shape[1])
        age_LL = places_L[:, None] - places_L
        taste_BLGK = self.last_G1 * classes_BLGK
        for rate, prior_G1, weight_G1 in zip(self.rates_R.sigmoid(), self.priors_RG1, self.weights_RG1, strict=True):
            decay_LL = torch.where(age_LL >= 0, rate ** age_LL.clamp(min=0), 0.0)
            counts_BLGK = torch.einsum("lm,bmgk->blgk", decay_LL, classes_BLGK)
            taste_BLGK = taste_BLGK + weight_G1 * (counts_BLGK + prior_G1.exp()).log()
        return torch.cat([taste_BLGK.flatten(-2), torch.ones_like(items_BLD[..., :1])], dim=-1)


def trained(
    groups: Groups, params: Params, sequences: Sequences, given_NC: Tensor, features_NF: Tensor, seed: int
) -> tuple[Recommender, Progress]:
    """At its best epoch on validation; by one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    table = Classes(groups, given_NC, features_NF, sequences.num_warm)
    spec = spec_of(params.train_teacher, sequences, params.protocol.max_history)
    recommender = Recommender(spec, table, Counts(table.dim))  # type: ignore[arg-type]  # of no kind of the grid
    training = params.train_teacher.training.model_copy(update=TRAINING)
    objective = Objective(params.train_teacher.objective, sequences.training_counts()[: sequences.num_warm], seed)
    with tempfile.TemporaryDirectory() as scratch:
        state = fit(
            recommender, sequences, training, seed=seed, mask_seen=params.protocol.mask_seen, scratch=Path(scratch),
            objective=objective, description="count",
        )  # fmt: skip
    return recommender, state


def one_hot(factors: tuple[str, ...]) -> Tensor:
    """(N, G K): the true values of the catalogue's items."""
    truth, catalog = open_truth(artifacts.read(WORLD, "demo")), open_items(artifacts.read(CATALOG, "ingest"))
    row_of = {item_id: row for row, item_id in enumerate(truth.item_ids)}
    rows_N = [row_of[item_id] for item_id in catalog.item_ids]
    columns = [list(FACTORS).index(name) for name in factors]
    values_NG = torch.from_numpy(truth.items.factors_NF[rows_N][:, columns].astype(np.int64))
    return nn.functional.one_hot(values_NG, CLASSES).flatten(1).float()


def ndcg(recommender: Recommender, sequences: Sequences, queries: Queries, allowed_N: np.ndarray) -> float:
    """NDCG@10, items of the history ranked too."""
    users_QD = recommender.user_vectors(queries.histories(sequences), queries.user)
    return float(
        ndcg_at(target_ranks(users_QD, recommender.item_vectors(), queries.target, None, allowed_N), 10).mean()
    )


def demo(only: list[str], seeds: list[int]) -> None:
    """The table of the demo world, as Markdown."""
    params, catalog = load_params(), artifacts.read(CATALOG, "ingest")
    sequences, cold = open_sequences(catalog), open_cold(catalog)
    features_NF = torch.from_numpy(conditioned(artifacts.read(EMBEDDINGS, "embed_items")))
    warm_N = np.arange(sequences.num_items) < sequences.num_warm
    print(
        "| classes | seed | validation | warm | cold, among cold | best epoch | CPU s |\n|---|---|---|---|---|---|---|"
    )
    for name in only or ROWS:
        given_NC = one_hot(ROWS[name].given)
        for seed in seeds:
            started = time.process_time()
            model, state = trained(ROWS[name], params, sequences, given_NC, features_NF, seed)
            warm = ndcg(model, sequences, sequences.queries("test"), warm_N)
            new = ndcg(model, sequences, cold, ~warm_N) if ROWS[name].given or ROWS[name].content else None
            cells = f"{state.best_ndcg:.4f} | {warm:.4f} | {'-' if new is None else f'{new:.4f}'} | {state.best_epoch}"
            print(f"| {name} | {seed} | {cells} | {time.process_time() - started:.0f} |", flush=True)


def real(name: str, seeds: list[int]) -> None:
    """Test figures of classes of IDs on MovieLens, beside which `benchmarks.teacher` has SASRec's."""
    params = preset_params(name)
    sequences = real_sequences(name, params)
    nothing = torch.zeros(sequences.num_items, 0)
    for seed in seeds:
        model, state = trained(ROWS["classes of IDs"], params, sequences, nothing, nothing, seed)
        words = ", ".join(f"{key} {value:.4f}" for key, value in tested(model, sequences).items())
        print(f"seed {seed}: best epoch {state.best_epoch}, validation {state.best_ndcg:.4f}, {words}", flush=True)


def main(
    only: Annotated[list[str] | None, typer.Option("--only", help="These rows.")] = None,
    seeds: Annotated[list[int] | None, typer.Option("--seeds")] = None,
    real_data: Annotated[str | None, typer.Option("--real", help="A preset of MovieLens.")] = None,
) -> None:
    """Train and print."""
    if real_data:
        real(real_data, seeds or [0])
    else:
        demo(only or [], seeds or [0])


if __name__ == "__main__":
    typer.run(main)
