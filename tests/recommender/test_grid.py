"""Every pair of the grid is one recommender: it trains, is saved, is loaded, and gives the same vectors again."""

import json

import numpy as np
import pytest
import torch

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.mirm.shards import write_conditioning, write_embeddings
from pipeline.params import load_params
from pipeline.params.training import SASRec, UserModel
from pipeline.recommender.alignment import Aligned
from pipeline.recommender.duorec import Views
from pipeline.recommender.fit import fit
from pipeline.recommender.grid import build, load_recommender, save, spec_of, with_second_token
from pipeline.recommender.llm import decoder_of
from pipeline.recommender.objective import Objective
from pipeline.recommender.teacher import Frozen
from tests.conftest import ROOT
from tests.recommender.test_models import tiny_mirm
from tests.recommender.worlds import cyclic, sequences_of

PARAMS = load_params(ROOT / "params.yaml").train_dueg
MODELS = ("sasrec", "gru4rec", "fpmc", "duorec", "llm")
WARM, COLD = 12, 2
WORLD = sequences_of([cyclic(20, WARM).history(u).tolist() for u in range(20)], WARM + COLD, WARM)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Embeddings of all items, and a MIRM."""
    root = tmp_path_factory.mktemp("grid")
    with artifacts.write(root / "embeddings") as out:
        features = np.random.default_rng(0).normal(size=(WARM + COLD, 6)).astype(np.float32)
        write_embeddings(out, features, "float32", 5)
        write_conditioning(out, features.mean(0), np.eye(6, dtype=np.float32))
    (root / "mirm").mkdir()
    tiny_mirm(root / "mirm")
    return root


def sized(model: str, **changes) -> UserModel:
    """The project's params, tiny: two steps of training."""
    return PARAMS.model_copy(
        update={
            "model": model,
            "sasrec": SASRec(dim=8, layers=1, heads=2, dropout=0.1, norm="pre", count_from="end"),
            "gru4rec": PARAMS.gru4rec.model_copy(update={"dim": 8, "hidden": 6}),
            "fpmc": PARAMS.fpmc.model_copy(update={"dim": 4}),
            "training": PARAMS.training.model_copy(update={"max_epochs": 1, "batch_size": 10}),
            "objective": PARAMS.objective.model_copy(update={"negatives": 3}),
            **changes,
        }
    )


def trained(folder, scratch, params, items, *, teacher=None, second_token=False):
    """(recommender, its course), and what it was before."""
    torch.manual_seed(0)
    embeddings = artifacts.read(folder / "embeddings", "embed_items")
    decoder = decoder_of(folder / "mirm", pretrained=True, dropout=0.1) if params.model == "llm" else None
    model = build(spec_of(params, WORLD, 8, items=items, head=params.head), embeddings, decoder)
    if second_token:
        model = with_second_token(model, teacher)
    terms = [Views(model, WORLD, params.duorec, 0)] if params.model == "duorec" else []
    if teacher is not None:
        terms.append(Aligned(Frozen(teacher), model, PARAMS.alignment, 0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    counts = WORLD.training_counts()[:WARM]
    scratch.mkdir()
    state = fit(
        model, WORLD, params.training, seed=0, mask_seen=False, scratch=scratch, terms=terms,
        objective=Objective(params.objective, counts, 0),
    )  # fmt: skip
    return model, state, before


def same_when_loaded(folder, tmp_path, model):
    with artifacts.write(tmp_path / "out") as out:
        save(model, out)
    loaded = load_recommender(
        artifacts.read(tmp_path / "out", "train_dueg"), artifacts.read(folder / "embeddings", "embed_items")
    )
    histories, users = [np.array([1, 2]), np.arange(12), np.array([3, 4, 3])], np.array([0, 19, -1])
    np.testing.assert_array_equal(loaded.user_vectors(histories, users), model.user_vectors(histories, users))
    np.testing.assert_array_equal(loaded.item_vectors(), model.item_vectors())
    return loaded


@pytest.mark.parametrize("items", ["id", "mirm", "id+mirm"])
@pytest.mark.parametrize("model", MODELS)
def test_every_pair_trains_and_comes_back_as_it_was(folder, tmp_path, model, items):
    recommender, state, before = trained(folder, tmp_path / "scratch", sized(model), items)
    assert state.step == 2 and np.isfinite(list(state.curve[0].values())).all()
    unmoved = [name for name, tensor in recommender.state_dict().items() if torch.equal(tensor, before[name])]
    assert [name for name in unmoved if not name.startswith("model.body.embed_tokens")] == []
    loaded = same_when_loaded(folder, tmp_path, recommender)
    assert loaded.rankable.tolist() == [True] * WARM + [items != "id"] * COLD


@pytest.mark.parametrize("head", ["linear", "two-layer"])
@pytest.mark.parametrize("kind", ["softmax", "sampled", "nce", "bce", "gbce"])
def test_every_objective_and_head(folder, tmp_path, kind, head):
    params = sized("gru4rec", head=PARAMS.head.model_copy(update={"kind": head}))
    params = params.model_copy(update={"objective": params.objective.model_copy(update={"kind": kind})})
    recommender, _, _ = trained(folder, tmp_path / "scratch", params, "mirm")
    loaded = same_when_loaded(folder, tmp_path, recommender)
    lengths = np.linalg.norm(loaded.item_vectors(), axis=1)
    assert np.allclose(lengths, 1, atol=1e-6) == (kind == "nce")  # which ranks by cosine


@pytest.mark.parametrize("student", ["sasrec", "llm"])
@pytest.mark.parametrize("of", MODELS[:4])
def test_every_teacher_aligns_and_stays_as_it_was(folder, tmp_path, of, student):
    teacher, _, _ = trained(folder, tmp_path / "teacher", sized(of), "id")
    vectors = teacher.item_vectors()
    _, state, _ = trained(folder, tmp_path / "scratch", sized(student), "mirm", teacher=teacher)
    assert np.isfinite(state.curve[0]["alignment"])
    np.testing.assert_array_equal(teacher.item_vectors(), vectors)


@pytest.mark.parametrize("items", ["id", "mirm"])
def test_the_teachers_item_vectors_as_second_tokens_are_read_and_kept(folder, tmp_path, items):
    teacher, _, _ = trained(folder, tmp_path / "teacher", sized("fpmc"), "id")
    recommender, _, _ = trained(folder, tmp_path / "scratch", sized("llm"), items, teacher=teacher, second_token=True)
    loaded = same_when_loaded(folder, tmp_path, recommender)
    np.testing.assert_array_equal(loaded.second.vectors_NE.numpy(), teacher.item_vectors())
    before = loaded.user_vectors([np.array([1, 2, 3])])
    loaded.second.vectors_NE[2] += 1.0
    assert np.abs(loaded.user_vectors([np.array([1, 2, 3])]) - before).max() > 0


def test_second_tokens_leave_no_way_to_look_ahead(folder, tmp_path):
    teacher, _, _ = trained(folder, tmp_path / "teacher", sized("fpmc"), "id")
    model, _, _ = trained(folder, tmp_path / "scratch", sized("llm"), "id", teacher=teacher, second_token=True)
    items, last, users = torch.tensor([[1, 2, 3, 4], [1, 2, 9, 4]]), torch.tensor([3, 3]), torch.tensor([0, 0])
    out = model.eval()(items, last, users, model.table.trained())
    assert torch.equal(out[0, :2], out[1, :2]) and not torch.equal(out[0, 2:], out[1, 2:])


def test_a_recommender_of_other_code_is_one_line(tmp_path, folder):
    with artifacts.write(tmp_path / "dueg") as out:
        (out / "recommender.json").write_text(json.dumps({"items": "id", "model": "svd"}))
    with pytest.raises(MolarError) as error:
        load_recommender(artifacts.read(tmp_path / "dueg", "train_dueg"), None)
    assert str(error.value) == (
        f"{tmp_path / 'dueg' / 'recommender.json'} is of another version of this project: run `dvc repro train_dueg`"
    )
