"""Frozen recommenders give what they gave; a new row stands beside them as a cold item would."""

import numpy as np
import pytest
import torch

from pipeline import artifacts
from pipeline.mirm.shards import conditioned, write_conditioning, write_embeddings
from pipeline.params import load_params
from pipeline.params.training import SASRec
from pipeline.recommender.grid import Spec, build, with_second_token
from pipeline.serving.tables import frozen, grown, refuse_ids_alone
from tests.catalog.shop import refusal
from tests.conftest import ROOT

WARM, COLD = 6, 2
HISTORIES = [np.array([0, 3, 5], np.int32), np.array([1], np.int32)]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "embeddings"
    with artifacts.write(folder) as out:
        write_embeddings(out, np.random.default_rng(0).normal(size=(WARM + COLD, 5)).astype(np.float32), "float32", 8)
        write_conditioning(out, np.zeros(5), np.eye(5))
    return artifacts.read(folder, "embed_items")


def recommender(embeddings, items, cosine=False):
    torch.manual_seed(0)
    spec = Spec(
        items=items, model="sasrec", num_items=WARM + COLD, num_trained=WARM, max_history=4, cosine=cosine,
        sasrec=SASRec(dim=8, layers=1, heads=2, dropout=0.1, norm="pre", count_from="end"),
        head=None if items == "id" else load_params(ROOT / "params.yaml").train_dueg.head,
    )  # fmt: skip
    return build(spec, embeddings, None).eval()


@pytest.mark.parametrize("items", ["id", "mirm", "id+mirm"])
@pytest.mark.parametrize("cosine", [False, True])
def test_freezing_moves_no_bit_and_a_new_row_is_the_cold_twin_s(embeddings, items, cosine):
    plain = recommender(embeddings, items, cosine)
    still = frozen(plain)
    more = grown(still, conditioned(embeddings)[WARM])
    assert np.array_equal(still.item_vectors(), plain.item_vectors())
    assert np.array_equal(more.item_vectors()[:-1], plain.item_vectors())
    assert np.allclose(more.item_vectors()[-1], plain.item_vectors()[WARM], atol=1e-6)
    for one in (still, more):
        assert np.array_equal(one.user_vectors(HISTORIES), plain.user_vectors(HISTORIES))
    of_new, of_twin = np.array([2, WARM + COLD], np.int32), np.array([2, WARM], np.int32)
    assert np.allclose(more.user_vectors([of_new]), plain.user_vectors([of_twin]), atol=1e-5)
    assert (more.num_items, int(more.rankable.sum())) == (9, 6 if items == "id" else 9)


def test_a_new_row_has_no_second_token_as_a_cold_item_has_none(embeddings):
    plain = recommender(embeddings, "mirm")
    plain = with_second_token(plain, recommender(embeddings, "id")).eval()
    more = grown(frozen(plain), conditioned(embeddings)[WARM])
    of_new, of_twin = np.array([WARM + COLD], np.int32), np.array([WARM], np.int32)
    assert np.allclose(more.user_vectors([of_new]), plain.user_vectors([of_twin]), atol=1e-5)


def test_ids_alone_can_know_no_new_item(embeddings):
    refuse_ids_alone(recommender(embeddings, "id+mirm"))
    assert "train_dueg.items = 'id'" in refusal(lambda: refuse_ids_alone(recommender(embeddings, "id")))
