"""Six families, one code path: what holds for the tiny Qwen2-VL holds for each, by its own processor and weights."""

import re

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraModel
from transformers import AutoModelForImageTextToText

from pipeline.errors import MolarError
from pipeline.mirm.adapters import NOT_THE_DECODER
from pipeline.mirm.backbone import EMBEDDING_TOKEN, FAMILIES, add_embedding_token, picture_tokens
from pipeline.mirm.batch import IGNORED
from pipeline.mirm.embed import Encoder
from pipeline.mirm.finetune import finetune
from pipeline.mirm.folder import Mirm, open_backbone, save_mirm
from pipeline.mirm.last_token import COPIES, embedding_tokens_alone
from pipeline.mirm.objectives import Losses, Steps
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Tasks
from pipeline.mirm.trained import TrainedEncoder
from pipeline.params import load_params
from pipeline.params.finetune_mirm import Lora
from pipeline.recommender.llm import decoder_of
from tests.conftest import ROOT
from tests.mirm.families import BUILDERS, HIDDEN, SPARE, as_published, folder
from tests.mirm.shop import NUM_ITEMS, Shop, drawn, recipe, walks

CPU = torch.device("cpu")
ALL = list(range(NUM_ITEMS))


@pytest.fixture(params=BUILDERS)
def family(request):
    return request.param


def opened(directory, **changes):
    return open_backbone(recipe(backbone=str(directory), **changes), None, seed=0)


def mixed_shop():
    """Items of every kind: both, a picture alone, words alone, and words of any length."""
    shop = Shop()
    for item in (2, 9, 17):
        shop.hide_picture(item)
    for item in (4, 11):
        shop.titles[item], shop.attributes[item] = None, {}
    shop.texts[6] = "a long description of many words that goes on"
    return shop


def embedded(mirm, shop, modality="text+image", budget=512):
    encoder = Encoder(mirm, shop, modality, CPU, budget)
    rows_ND = np.zeros((len(shop), HIDDEN), np.float32)
    for batch in encoder.batches():
        rows_ND[batch] = encoder.encode(batch)
    return rows_ND


def test_every_supported_family_is_tested():
    assert set(FAMILIES) == set(BUILDERS)


@pytest.mark.parametrize("modality", ["text", "image", "text+image"])
def test_an_item_s_embedding_knows_nothing_of_its_batch(family, modality):
    mirm, shop = opened(folder(family)), mixed_shop()
    encoder = Encoder(mirm, shop, modality, CPU)
    alone_ND = np.concatenate([encoder.encode([item]) for item in ALL])
    assert np.ptp(alone_ND, axis=0).max() > 0.1, "the items do differ"
    for budget in (64, 200, 4096):
        found_ND = embedded(mirm, shop, modality, budget)
        np.testing.assert_allclose(found_ND, alone_ND, atol=1e-5)
        same = Encoder(mirm, shop, modality, CPU, budget)
        np.testing.assert_array_equal(found_ND, np.concatenate([same.encode([item]) for item in ALL]))
    reverse = [item for item in reversed(ALL) if shop.has_image[item]]
    np.testing.assert_allclose(encoder.encode(reverse), alone_ND[reverse], atol=1e-5)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_loss_of_the_embeddings_trains_it_in_parts_as_at_once(family, tuning):
    """Of items with and without a picture or words; gradients reach the decoder in both, and the tower in one."""
    params, found, items = load_params(ROOT / "params.yaml"), [], [2, 4, 6, 7]
    for naive in (True, False):
        torch.manual_seed(3)
        lora = Lora(rank=2, alpha=4, dropout=0.0)
        asked = params.train_dueg.joint.model_copy(update={"tuning": tuning, "lora": lora, "batch_tokens": 64})
        encoder = TrainedEncoder(opened(folder(family)), mixed_shop(), asked, params.embed_items, CPU)
        weights = encoder.weights()
        encoder.everything()  # whatever validation leaves behind may be in no gradient's way
        if naive:
            inner = encoder._encoder
            rows_SD = torch.cat([inner.states([item], inner.shape(item).length) for item in items])
        else:
            rows_SD = encoder.encode(items)
        (rows_SD * torch.linspace(-1, 1, rows_SD.numel()).view_as(rows_SD)).sum().backward()
        found.append([weight.grad for weight in weights])
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in found[0])
    for ours, theirs in zip(*found, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max() + 1))


def test_rows_with_and_without_a_picture_share_a_forward(family):
    """Fine-tuning mixes them. Mllama's rows without one see another model then, as its own processor makes them."""
    mirm, shop = opened(folder(family)), mixed_shop()
    encoder = Encoder(mirm, shop, "text+image", CPU)
    alone_ND = np.concatenate([encoder.encode([item]) for item in ALL])
    mixed_ND = encoder.encode(ALL)
    same = [item for item in ALL if family != "mllama" or shop.has_image[item]]
    np.testing.assert_allclose(mixed_ND[same], alone_ND[same], atol=1e-5)


@pytest.mark.parametrize("picture", [True, False])
def test_it_is_the_last_hidden_state_of_the_family_s_own_forward(family, picture):
    mirm, shop = opened(folder(family), max_text_tokens=100), Shop()
    if not picture:
        shop.hide_picture(4)
    processor = mirm.processor
    mark = processor.image_token
    mark = f"<|vision_start|>{mark}<|vision_end|>" if family.startswith("qwen") else mark
    text = f"item{mark if picture else ''} lamp number 4 ; brand bonto ; material oak{EMBEDDING_TOKEN}"
    crop = {"images_kwargs": {"crop_to_patches": False}} if family == "internvl" and picture else {}
    shown = {"images": [[shop.image(4)]]} if picture else {}
    # Mllama's processor writes the opening token into the text; its tokenizer would add another
    inputs = processor(text=[text], **shown, **crop, text_kwargs={"add_special_tokens": False}, return_tensors="pt")
    with torch.no_grad():
        expected = mirm.model(**inputs, output_hidden_states=True).hidden_states[-1][0, -1]
    np.testing.assert_allclose(Encoder(mirm, shop, "text+image", CPU).encode([4])[0], expected.numpy(), atol=1e-5)


def test_a_picture_and_words_both_tell(family):
    mirm, shop = opened(folder(family)), Shop()
    both, image, text = (embedded(mirm, shop, modality) for modality in ("text+image", "image", "text"))
    assert np.abs(both - image).max() > 0.01 and np.abs(both - text).max() > 0.01
    np.testing.assert_allclose(image[0], image[6], atol=1e-5)  # one colour, other words
    shop.pictures[0] = shop.pictures[1]
    changed = embedded(mirm, shop, "text")
    assert np.array_equal(changed, text), "no picture is looked at"
    assert np.abs(embedded(mirm, shop, "image")[0] - image[0]).max() > 0.001


def test_the_embedding_token_takes_a_spare_row_or_a_new_one(family):
    spare = opened(folder(family))
    rows = spare.model.get_input_embeddings().weight.shape[0]
    assert spare.settings.embedding_token_id < rows
    assert rows == AutoModelForImageTextToText.from_pretrained(folder(family)).get_input_embeddings().weight.shape[0]
    if family != "mllama":  # whose table never lacks one
        grown = opened(folder(family, spare=0))
        weight_VD = grown.model.get_input_embeddings().weight
        assert len(weight_VD) == grown.settings.embedding_token_id + 1 == len(grown.processor.tokenizer)
        assert 0.3 < (weight_VD[-1].std() / weight_VD[:-1].std()).item() < 3


def test_a_folder_in_the_published_layout_is_the_same_model(tmp_path):
    published = opened(as_published(tmp_path / "Qwen2-VL-2B-Instruct"))
    native, shop = opened(folder("qwen2_vl")), mixed_shop()
    assert published.model.dtype == torch.float32, "the config's bfloat16 does not win"
    assert published.settings.embedding_token_id == native.settings.embedding_token_id
    np.testing.assert_allclose(embedded(published, shop), embedded(native, shop), atol=1e-6)


def test_an_mllama_without_a_spare_row_is_refused():
    mirm = opened(folder("mllama"))
    tokenizer = mirm.processor.tokenizer
    tokenizer.add_tokens([f"<{number}>" for number in range(SPARE)])
    tokenizer.get_vocab = lambda: {}  # as if it had no embedding token yet
    tokenizer.convert_tokens_to_ids = lambda _: len(tokenizer)
    with pytest.raises(MolarError) as error:
        add_embedding_token(mirm.model, mirm.processor, seed=0)
    assert str(error.value) == "finetune_mirm.backbone: this Mllama has no spare embedding row for <|item_emb|>"


@pytest.mark.parametrize("how", ["full", "lora"])
def test_tuned_saved_and_opened_again(family, how, tmp_path, monkeypatch):
    """A few steps move what should move; the saved folder is a plain checkpoint with the very embeddings."""
    params = recipe(backbone=str(folder(family)), tuning=how, steps=6, learning_rate=3e-3, train_vision=how == "full")
    mirm, shop = open_backbone(params, None, 0), mixed_shop()
    before = {name: p.detach().clone() for name, p in mirm.model.named_parameters()}
    unmerged = []
    merge = LoraModel.merge_and_unload

    def remembered(self, *args, **kwargs):
        unmerged.append(embedded(Mirm(self.model, mirm.processor, mirm.settings), shop))
        return merge(self, *args, **kwargs)

    monkeypatch.setattr(LoraModel, "merge_and_unload", remembered)
    (tmp_path / "scratch").mkdir()
    tuned = finetune(mirm, shop, walks(), params, 0, tmp_path / "scratch", CPU, workers=0)
    moved = {name for name, p in tuned.mirm.model.named_parameters() if not torch.equal(p, before[name])}
    tower = {name for name in before if re.fullmatch(NOT_THE_DECODER, name)}
    assert tower and moved - tower, "the decoder learns"
    assert bool(moved & tower) == (how == "full"), "the vision tower when told so"
    rows_ND = embedded(tuned.mirm, shop)
    if how == "lora":
        np.testing.assert_allclose(rows_ND, unmerged[0], atol=1e-5)
    save_mirm(tuned.mirm, tmp_path / "mirm")
    again = opened(tmp_path / "mirm")
    assert again.settings.embedding_token_id == mirm.settings.embedding_token_id, "an earlier MIRM keeps its token"
    np.testing.assert_array_equal(embedded(again, shop), rows_ND)
    plain, told = AutoModelForImageTextToText.from_pretrained(tmp_path / "mirm", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert len(plain.state_dict()) == len(AutoModelForImageTextToText.from_pretrained(folder(family)).state_dict())


def gradients(mirm, shop, params, step=0):
    """Of one step's mean loss, parts added up; and how many forward passes it took."""
    tasks = Tasks(shop, walks(), Prompts(shop, mirm.processor, mirm.settings), params, 0)
    steps, model = Steps(tasks, Pictures(shop, mirm), mirm, params), Losses(mirm.model)
    mirm.model.zero_grad()
    given, _ = steps[step]["answers"]
    answers = [int((labels_BL != IGNORED).sum()) for _, labels_BL in given]
    for (inputs, labels_BL), count in zip(given, answers, strict=True):
        (model(inputs, labels_BL) * count / sum(answers)).backward()
    return {name: p.grad.clone() for name, p in mirm.model.named_parameters() if p.grad is not None}, len(given)


@pytest.mark.parametrize("task", ["image_text", "attributes", "behaviour"])
def test_a_step_in_parts_has_the_gradients_of_the_whole(family, task):
    others = {name: 0 for name in ("image_text", "attributes", "behaviour") if name != task}
    tasks, mirm, shop = others | {"attributes_with_image": 0.5}, opened(folder(family)), mixed_shop()
    found = [gradients(mirm, shop, recipe(tasks=tasks, batch_size=8, batch_tokens=tokens)) for tokens in (100_000, 64)]
    (whole, one), (parted, several) = found
    assert several > one >= 1 and whole.keys() == parted.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parted[name], gradient, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient(family):
    mirm, shop, params = opened(folder(family)), mixed_shop(), recipe()
    mirm.model.train()
    plain, _ = gradients(mirm, shop, params)
    mirm.model.activation_checkpointing_enable({"use_reentrant": False})
    checkpointed, _ = gradients(mirm, shop, params)
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], gradient) for name, gradient in checkpointed.items())


def test_the_user_model_gets_the_family_s_own_decoder(family):
    original = AutoModelForImageTextToText.from_pretrained(folder(family), dtype=torch.float32)
    weights = original.get_decoder().state_dict()
    decoder = decoder_of(folder(family), pretrained=True, dropout=0.0).eval()
    loaded = decoder.body.state_dict()
    shared = [name for name in weights if "embed_tokens" not in name]
    assert len(shared) > 10 and all(torch.equal(weights[name], loaded[name]) for name in shared)
    torch.manual_seed(1)
    items_BLD = torch.randn(2, 8, HIDDEN)
    changed_BLD = items_BLD.clone()
    changed_BLD[:, 5] = torch.randn(2, HIDDEN)
    last_B, users_B = torch.tensor([7, 7]), torch.tensor([0, 1])
    difference = (decoder(items_BLD, last_B, users_B) - decoder(changed_BLD, last_B, users_B)).abs().amax((0, 2))
    assert difference[:5].max() == 0 and (difference[5:] > 0).all(), "causal"


def test_pictures_in_one_call_are_those_of_one_call_each(family):
    """To the bit, whatever their shapes: a wide one, a tall one, a square one."""
    shop, sizes = Shop(), {0: (84, 56), 1: (56, 112), 2: (56, 56)}
    for item, size in sizes.items():
        shop.pictures[item] = drawn((30 * item, 200, 30), size)
    mirm = opened(folder(family), image_pixels=112 * 112)
    together, alone = Pictures(shop, mirm), Pictures(shop, mirm)
    together.prepare([2, 0, 1, 0])
    for item in sizes:
        one, other = together[item], alone[item]
        assert (one.ids, one.types) == (other.ids, other.types)
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_placeholders_of_a_form_are_asked_once_and_are_the_whole_processor_s(family, monkeypatch):
    shop = Shop()
    mirm = opened(folder(family), image_pixels=112 * 112)
    for item, size in enumerate([(84, 56), (56, 112), (84, 56), (56, 56)]):
        shop.pictures[item] = drawn((30 * item, 200, 30), size)
    alone = {item: Pictures(shop, mirm)[item] for item in range(4)}
    pictures, asked = Pictures(shop, mirm), []
    whole = type(mirm.processor).__call__
    monkeypatch.setattr(
        type(mirm.processor), "__call__", lambda self, *a, **kw: asked.append(1) or whole(self, *a, **kw)
    )
    pictures.prepare(range(4))
    assert len(asked) == len({pictures[item].form for item in range(4)}) <= 3
    for item in range(4):
        assert (pictures[item].ids, pictures[item].types) == (alone[item].ids, alone[item].types)
        inputs = whole(
            mirm.processor, text=[pictures._markup], images=[[shop.image(item)]], return_tensors="pt",
            images_kwargs=pictures._images_kwargs,
        )  # fmt: skip
        assert all(torch.equal(tensor, inputs[name]) for name, tensor in pictures[item].tensors.items())


def test_the_last_layer_finishes_the_embedding_tokens_alone(family):
    mirm = opened(folder(family))
    model, decoder = mirm.model.eval(), mirm.model.get_decoder()
    seen = []
    decoder.layers[-1].mlp.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    ids_BL, last_B = torch.randint(3, 40, (5, 30)), torch.tensor([29, 3, 17, 8, 29])
    inputs = {"input_ids": ids_BL, "attention_mask": (torch.arange(30) <= last_B[:, None]).long()}
    with torch.no_grad():
        whole_BLD = model.model(**inputs, use_cache=False).last_hidden_state
        with embedding_tokens_alone(decoder, last_B):
            alone_BLD = model.model(**inputs, use_cache=False).last_hidden_state
        after_BLD = model.model(**inputs, use_cache=False).last_hidden_state
    rows_B = torch.arange(5)
    torch.testing.assert_close(alone_BLD[rows_B, last_B], whole_BLD[rows_B, last_B], atol=1e-6, rtol=0)
    assert torch.equal(after_BLD, whole_BLD)
    assert [shape[1] for shape in seen] == [30, COPIES, 30]


def test_pictures_are_bounded_where_the_family_allows(family):
    """Image tokens of a large picture at two bounds; two families know one size only."""
    shop = Shop()
    shop.pictures[0] = drawn((200, 30, 30), (448, 448))
    tokens = []
    for side in (56, 112):
        pictures = Pictures(shop, opened(folder(family), image_pixels=side * side))
        tokens.append(pictures[0].ids.count(pictures.image_token_id))
        assert len(pictures[0].ids) <= picture_tokens(pictures._processor)
    assert tokens == {"qwen2_vl": [4, 16], "qwen2_5_vl": [4, 16], "qwen3_vl": [1, 9], "internvl": [4, 4],
                      "deepseek_vl": [16, 16], "mllama": [1, 1]}[family]  # fmt: skip
