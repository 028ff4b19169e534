"""MIRM and user model trained together: gradients of plain autograd, a bank that keeps up, an outcome that is whole."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForImageTextToText

from pipeline import artifacts
from pipeline.errors import MolarError
from pipeline.mirm import trained
from pipeline.mirm.conditioning import fit as fit_conditioning
from pipeline.mirm.embed import Encoder
from pipeline.mirm.folder import load_mirm, save_mirm
from pipeline.mirm.own import own_or
from pipeline.mirm.shards import conditioned, read_conditioning, read_embeddings, write_conditioning, write_embeddings
from pipeline.params import load_params
from pipeline.params.finetune_mirm import Lora
from pipeline.recommender import fit as fitting
from pipeline.recommender.batches import collate, windows
from pipeline.recommender.fit import fit
from pipeline.recommender.grid import build, load_recommender, save, spec_of
from pipeline.recommender.item_table import SumTable
from pipeline.recommender.joint import JointItems
from pipeline.recommender.objective import Objective
from tests.conftest import ROOT
from tests.mirm.shop import NUM_ITEMS, NUM_WARM, Shop, backbone, walks
from tests.recommender.killed import killed_in_epoch
from tests.recommender.test_grid import sized

PARAMS = load_params(ROOT / "params.yaml")
EMBED = PARAMS.embed_items
CPU = torch.device("cpu")
SMALL, LARGE = 128, 100_000  # batch_tokens: several parts, each encoded twice; all at once


def joint(**changes):
    lora = Lora(rank=2, alpha=4, dropout=changes.pop("dropout", 0.0))
    fast = {"epochs": 3, "lora": lora, "learning_rate": 1e-2, "batch_tokens": SMALL}
    return PARAMS.train_dueg.joint.model_copy(update=fast | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`mirm` and `embeddings` as the stages leave them."""
    root = tmp_path_factory.mktemp("joint")
    mirm = backbone()
    with artifacts.write(root / "mirm") as out:
        save_mirm(mirm, out)
    encoder = Encoder(mirm, Shop(), "text+image", CPU)
    rows = dict(pair for batch in encoder.batches() for pair in zip(batch, encoder.encode(batch), strict=True))
    rows_ND = np.stack([rows[item] for item in range(NUM_ITEMS)])
    with artifacts.write(root / "embeddings") as out:
        write_embeddings(out, rows_ND, "float32", 8)
        write_conditioning(out, *fit_conditioning(rows_ND, np.arange(14), "pca", 0.03))
    return root


def parts(folder, asked, *, items="mirm", model="sasrec"):
    """A fresh recommender over the shop, and what trains its items."""
    torch.manual_seed(0)
    dueg = sized(model)
    shared = artifacts.read(folder / "embeddings", "embed_items")
    spec = spec_of(dueg, walks(), 8, items=items, head=dueg.head.model_copy(update={"hidden": 8, "dropout": 0.0}))
    recommender = build(spec, shared, None)
    mirm = artifacts.read(folder / "mirm", "finetune_mirm")
    return recommender, JointItems(recommender, Shop(), mirm, shared, asked, EMBED, seed=1)


def a_batch(users=3):
    sequences = walks()
    return collate(sequences, windows(sequences, 8, np.random.default_rng(0))[:users])


def met(batch):
    return torch.cat([batch.inputs_BL[batch.real_BL], batch.targets_BL[batch.real_BL]]).unique()


def loss_of(recommender, batch, items_VD):
    users_BLD = recommender(batch.inputs_BL, batch.last_B, batch.users_B, items_VD)
    objective = Objective(sized("sasrec").objective, walks().training_counts()[:NUM_WARM], 0)
    return objective(users_BLD[batch.real_BL], items_VD, batch.targets_BL[batch.real_BL], 0)


@pytest.mark.parametrize("items", ["mirm", "id+mirm"])
@pytest.mark.parametrize(
    "asked",
    [joint(), joint(batch_tokens=LARGE), joint(tuning="full"), joint(dropout=0.3)],
    ids=["parts", "at once", "full", "dropout"],
)
def test_a_step_s_gradients_are_those_of_plain_autograd(folder, items, asked):
    """Naively: all the batch's items through the model with their graph at once. With dropout both draw the same."""
    batch = a_batch()
    found = []
    for naive in (True, False):
        recommender, source = parts(folder, asked, items=items)
        recommender.eval()  # its own dropout is not what is asked
        source.refresh()
        for weight in source.module.weights:  # adapters begin with a zero matrix, which would hide half of them
            torch.manual_seed(2)
            torch.nn.init.normal_(weight, std=0.1) if asked.tuning == "lora" else None
        torch.manual_seed(7)
        if naive:
            items_S, encoder = met(batch), source.encoder._encoder
            source.encoder._model.train()
            if asked.lora.dropout:  # the same parts draw the same
                order = list(encoder.batches(items_S.tolist()))
                rows = [encoder.states(part, encoder.shape(part[0]).length) for part in order]
                rows_SD = torch.cat(rows)[torch.tensor([item for part in order for item in part]).argsort()]
            else:
                longest = max(encoder.shape(item).length for item in items_S.tolist())
                rows_SD = encoder.states(items_S.tolist(), longest)
            mean_D, matrix_DF = map(torch.from_numpy, read_conditioning(artifacts.read(folder / "embeddings", "")))
            table = recommender.table
            content = table.content if isinstance(table, SumTable) else table
            features_VF = content.features_NF[:NUM_WARM].clone()
            features_VF[items_S] = (rows_SD - mean_D) @ matrix_DF
            items_VD = content.head(features_VF) + (table.ids.weight if isinstance(table, SumTable) else 0)
        else:
            items_VD = source.trained(batch)
        loss_of(recommender, batch, items_VD).backward()
        named = [*recommender.named_parameters(), *source.module.named_parameters()]
        found.append({name: p.grad.clone() for name, p in named if p.grad is not None})
    naive, ours = found
    assert naive.keys() == ours.keys()
    in_mirm = [name for name in ours if name.startswith("weights.")]
    assert len(in_mirm) > 4 and all(ours[name].abs().max() > 0 for name in in_mirm)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, naive[name], rtol=2e-3, atol=2e-5 * float(naive[name].abs().max() + 1))


def test_a_step_in_parts_encodes_in_parts(folder):
    for budget, several in ((SMALL, True), (LARGE, False)):
        _, source = parts(folder, joint(batch_tokens=budget))
        encoder, calls = source.encoder._encoder, []
        states = encoder.states
        encoder.states = lambda *args, states=states, calls=calls: calls.append(args) or states(*args)
        source.trained(a_batch()).sum().backward()
        shapes = {encoder.shape(item) for item in met(a_batch()).tolist()}
        assert (len(calls) > 2 * len(shapes)) == several  # a part is passed once more with its gradient
        assert several or len(calls) == len(shapes)


def test_a_part_encoded_twice_names_the_device_whose_random_state_it_needs(folder, monkeypatch):
    """torch keeps that of the devices of the tensors that it is given: without one, dropout on a GPU is drawn anew."""
    given = []

    def spied(function, *arguments, **options):
        given.append(arguments)
        return checkpoint(function, *arguments, **options)

    monkeypatch.setattr(trained, "checkpoint", spied)
    _, source = parts(folder, joint())
    source.trained(a_batch())
    device = source.encoder._encoder.device
    assert given
    assert all(any(isinstance(a, torch.Tensor) and a.device == device for a in arguments) for arguments in given)


def test_the_bank_holds_what_was_encoded_last(folder):
    recommender, source = parts(folder, joint())
    before_NF = recommender.table.features_NF.clone()
    with torch.no_grad():
        for weight in source.module.weights:
            weight += 0.1
    batch = a_batch()
    items_S = met(batch)
    items_VD = source.trained(batch)
    bank_NF = recommender.table.features_NF
    others = torch.tensor([item for item in range(NUM_ITEMS) if item not in items_S])
    assert torch.equal(bank_NF[others], before_NF[others]) and not bank_NF.requires_grad
    assert (bank_NF[items_S] - before_NF[items_S]).abs().max() > 1e-2
    torch.testing.assert_close(recommender.table.trained(), items_VD)
    source.refresh()
    assert (bank_NF[others] - before_NF[others]).abs().amax(1).min() > 1e-3, "cold ones too"
    torch.testing.assert_close(bank_NF[items_S], source.module.features_NF[items_S])
    assert bank_NF is source.module.features_NF


def train(folder, scratch, asked, *, cached=2, items="mirm", model="sasrec"):
    """(recommender, source, course) after `cached` epochs on cached vectors and the joint ones."""
    recommender, source = parts(folder, asked, items=items, model=model)
    training = sized(model).training.model_copy(update={"max_epochs": cached, "warmup_steps": 1})
    common = {
        "seed": 0,
        "mask_seen": False,
        "objective": Objective(sized(model).objective, walks().training_counts()[:NUM_WARM], 0),
    }
    before = fit(recommender, walks(), training, scratch=made(scratch / "cached"), **common) if cached else None
    longer = training.model_copy(update={"max_epochs": cached + asked.epochs})
    course = fit(recommender, walks(), longer, scratch=made(scratch / "joint"), source=source, after=before, **common)
    return recommender, source, course


def made(path):
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(recommender, source):
    tensors = [*recommender.state_dict().values(), *source.module.state_dict().values()]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_killed_joint_training_ends_in_the_weights_of_an_undisturbed_one(folder, tmp_path, tuning):
    asked = joint(tuning=tuning, dropout=0.1, learning_rate=1e-3)
    *undisturbed, course = train(folder, tmp_path / "a", asked)
    assert [row["epoch"] for row in course.curve] == [1, 2, 3, 4, 5] and course.best_epoch > 2
    killed_in_epoch(4, lambda: train(folder, tmp_path / "b", asked))
    *resumed, again = train(folder, tmp_path / "b", asked)
    assert again == course and digest(*resumed) == digest(*undisturbed)


def test_a_checkpoint_holds_adapters_and_no_backbone(folder, tmp_path):
    _, source, _ = train(folder, tmp_path, joint(epochs=1), cached=0)
    backbone_bytes = sum(p.nbytes for p in source.encoder._model.parameters() if not p.requires_grad)
    assert (tmp_path / "joint/last.safetensors").stat().st_size < backbone_bytes


@pytest.mark.parametrize(("items", "tuning"), [("mirm", "lora"), ("id+mirm", "full")])
def test_the_outcome_is_whole_and_read_with_its_own_embeddings(folder, tmp_path, monkeypatch, items, tuning):
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))
    recommender, source, course = train(folder, tmp_path, joint(tuning=tuning), items=items)
    held_NF, vectors_ND = source.module.features_NF.clone().numpy(), recommender.item_vectors()
    with artifacts.write(tmp_path / "dueg") as out:
        save(recommender, out)
        source.write(out, "train_dueg", workers=0)
    shared = artifacts.read(folder / "embeddings", "embed_items")
    dueg = artifacts.read(tmp_path / "dueg", "train_dueg")
    own = own_or(dueg, "embeddings", shared)
    assert own.directory == tmp_path / "dueg/embeddings" and own.stage == "train_dueg"
    for ours, theirs in zip(read_conditioning(own), read_conditioning(shared), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.allclose(conditioned(own), held_NF, atol=1e-3), "what was validated is what is written"
    assert np.abs(read_embeddings(own) - read_embeddings(shared)).max() > 1e-2

    loaded = load_recommender(dueg, shared)
    assert np.allclose(loaded.item_vectors(), vectors_ND, atol=1e-3)
    assert fitting.validate(loaded, walks(), False)[0] == pytest.approx(course.best_ndcg, abs=1e-3)

    mirm = load_mirm(own_or(dueg, "mirm", artifacts.Artifact(folder / "mirm", "finetune_mirm")), "float32")
    anew = Encoder(mirm, Shop(), EMBED.modality, CPU, EMBED.batch_tokens)
    assert np.array_equal(anew.encode([5])[0], read_embeddings(own)[5])
    AutoModelForImageTextToText.from_pretrained(tmp_path / "dueg/mirm")

    shutil.rmtree(tmp_path / "dueg/embeddings")
    with pytest.raises(MolarError, match="embeddings is missing or unfinished: run `dvc repro train_dueg`"):
        load_recommender(artifacts.read(tmp_path / "dueg", "train_dueg"), shared)


def test_a_dueg_of_cached_embeddings_goes_with_those_of_all(folder, tmp_path):
    recommender, _ = parts(folder, joint())
    with artifacts.write(tmp_path / "dueg") as out:
        save(recommender, out)
    shared = artifacts.read(folder / "embeddings", "embed_items")
    assert own_or(artifacts.read(tmp_path / "dueg", "train_dueg"), "embeddings", shared) is shared
