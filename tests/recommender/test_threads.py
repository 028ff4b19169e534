"""Two threads sum in one order: a training run twice has the same bits, of every user model and every objective.

Torch splits small work among no threads, so these batches are as large as it takes: while the item table was read by
an index, whose gradient threads add to as they come, all cases but FPMC's differed from run to run.
"""

import hashlib

import numpy as np
import pytest
import torch

from pipeline.params import load_params
from pipeline.params.training import SASRec
from pipeline.recommender.duorec import Views
from pipeline.recommender.fit import fit
from pipeline.recommender.grid import Recommender, spec_of, user_model
from pipeline.recommender.item_table import FeatureTable, IdTable, SumTable
from pipeline.recommender.llm import decoder_of
from pipeline.recommender.objective import Objective
from tests.conftest import ROOT
from tests.recommender.test_models import tiny_mirm
from tests.recommender.worlds import cyclic

PARAMS = load_params(ROOT / "params.yaml").train_dueg
WORLD = cyclic(1_000, 500, shortest=20, longest=30)
MODELS = ("sasrec", "gru4rec", "fpmc", "duorec", "llm")
SAMPLED = ("sampled", "nce", "bce", "gbce")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def mirm(tmp_path_factory):
    return tiny_mirm(tmp_path_factory.mktemp("mirm"))


def digest_of_a_training(mirm, scratch, model: str, kind: str, drawn_per: str) -> str:
    params = PARAMS.model_copy(
        update={
            "model": model,
            "sasrec": SASRec(dim=64, layers=1, heads=2, dropout=0.1, norm="pre", count_from="end"),
            "training": PARAMS.training.model_copy(update={"max_epochs": 1, "batch_size": 500}),
            "objective": PARAMS.objective.model_copy(update={"kind": kind, "drawn_per": drawn_per, "negatives": 8}),
        }
    )
    torch.manual_seed(0)
    spec = spec_of(params, WORLD, 30)
    user = user_model(spec, decoder_of(mirm, pretrained=True, dropout=0.1) if model == "llm" else None)
    content = FeatureTable(torch.randn(500, 8), 500, user.dim, "two-layer", 16, 0.1)
    recommender = Recommender(spec, SumTable(IdTable(500, 500, user.dim), content), user)
    scratch.mkdir()
    fit(
        recommender, WORLD, params.training, seed=0, mask_seen=False, scratch=scratch,
        objective=Objective(params.objective, np.ones(500, np.int64), 0),
        terms=[Views(recommender, WORLD, params.duorec.model_copy(update={"supervised": 0.1}), 0)]
        if model == "duorec" else (),
    )  # fmt: skip
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in recommender.state_dict().values())).hexdigest()


@pytest.mark.parametrize(
    ("model", "kind", "drawn_per"),
    [(model, "softmax", "batch") for model in MODELS]
    + [("sasrec", kind, drawn_per) for kind in SAMPLED for drawn_per in ("batch", "position")],
)
def test_a_training_has_the_same_bits_again(two_threads, mirm, tmp_path, model, kind, drawn_per):
    digests = {digest_of_a_training(mirm, tmp_path / str(run), model, kind, drawn_per) for run in range(3)}
    assert len(digests) == 1
