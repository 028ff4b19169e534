"""One prompt: modalities can be missing, words are cut, and the embedding token always comes last."""

import torch

from pipeline.mirm.batch import IGNORED, Example, collate
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts, Shown
from tests.mirm.shop import NUM_ITEMS, Shop, backbone


def parts(shop=None):
    mirm, shop = backbone(), shop or Shop()
    return mirm, shop, Prompts(shop, mirm.processor, mirm.settings), Pictures(shop, mirm)


def said(mirm, prompt):
    return mirm.processor.tokenizer.decode([part for part in prompt if not isinstance(part, Shown)])


def test_prompt_reads_instruction_picture_words_token():
    mirm, _, prompts, _ = parts()
    prompt = prompts.item(4)
    assert Shown(4) in prompt
    assert said(mirm, prompt) == "item lamp number 4 ; brand bonto ; material oak<|item_emb|>"
    assert said(mirm, prompts.item(4, words=False)) == "item<|item_emb|>"
    assert Shown(4) not in prompts.item(4, picture=False)


def test_item_without_a_picture_or_words_still_has_a_prompt():
    shop = Shop()
    shop.hide_picture(4)
    shop.titles[4], shop.attributes[4] = None, {}
    mirm, _, prompts, _ = parts(shop)
    assert said(mirm, prompts.item(4)) == "item<|item_emb|>"


def test_pieces_equal_the_processor_s_own_tokens():
    mirm, shop, prompts, pictures = parts()
    text = "item<|vision_start|><|image_pad|><|vision_end|> lamp number 4 ; brand bonto ; material oak<|item_emb|>"
    whole = mirm.processor(text=[text], images=[[shop.image(4)]], return_tensors="pt")
    ours = collate([Example(prompts.item(4))], pictures, 0).inputs
    for name, tensor in whole.items():
        assert torch.equal(tensor, ours.pop(name)), name
    assert set(ours) == {"position_ids"}


def test_positions_are_those_that_the_model_would_work_out():
    mirm, _, prompts, pictures = parts()
    examples = [
        Example(prompts.history([2, 3], [True, True], 512), prompts.answer(["lamp"])),
        Example(prompts.item(3), prompts.answer(["red", "square"])),
        Example(prompts.item(5, picture=False)),
    ]
    inputs = collate(examples, pictures, 0).inputs
    given = inputs.pop("position_ids")
    model = mirm.model.model
    assert torch.equal(given, model.compute_3d_position_ids(inputs_embeds=None, **without_pixels(inputs)))


def without_pixels(inputs):
    return {name: tensor for name, tensor in inputs.items() if name != "pixel_values"}


def test_long_text_never_cuts_the_embedding_token():
    shop = Shop()
    shop.texts[4] = "very long " * 500
    mirm, _, prompts, pictures = parts(shop)
    prompt = prompts.item(4)
    assert prompt[-1] == mirm.settings.embedding_token_id
    assert len(prompts.words(4)) == mirm.settings.max_text_tokens
    batch = collate([Example(prompts.item(i)) for i in range(NUM_ITEMS)], pictures, 0)
    ids, attention = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    for row, length in enumerate(batch.prompt_lengths_B.tolist()):
        assert attention[row].sum() == length
        assert ids[row, length - 1] == mirm.settings.embedding_token_id


def test_control_tokens_in_a_title_are_words():
    shop = Shop()
    shop.titles[4] = "lamp <|im_end|> <|image_pad|><|item_emb|>"
    mirm, _, prompts, _ = parts(shop)
    special = set(mirm.processor.tokenizer.all_special_ids)
    assert not special & set(prompts.words(4))
    assert not special & set(prompts.answer([shop.titles[4]])[:-1])


def test_labels_are_answers_alone_and_end_with_the_end_token():
    mirm, _, prompts, pictures = parts()
    examples = [
        Example(prompts.item(1), prompts.answer(["red", "square"])),
        Example(prompts.item(2, picture=False), prompts.answer(["chair"])),
        Example(prompts.history([5, 6, 7], [True, False, True], 512), prompts.answer(["lamp number 8"])),
    ]
    batch = collate(examples, pictures, 0)
    for row, example in enumerate(examples):
        length = int(batch.prompt_lengths_B[row])
        labels = batch.labels_BL[row]
        counted = labels != IGNORED
        assert labels[counted].tolist() == example.answer
        assert counted.nonzero()[:, 0].tolist() == list(range(length, length + len(example.answer)))
        assert example.answer[-1] == mirm.processor.tokenizer.eos_token_id
        assert torch.equal(batch.inputs["input_ids"][row][counted], labels[counted])


def test_a_history_drops_its_oldest_items_above_the_bound_and_keeps_the_newest():
    _, _, prompts, pictures = parts()
    one = len(prompts.history([5], [True], 512)) + len(pictures[5].ids) - 1
    shown = [
        [part.item for part in prompts.history([4, 5], [True, True], n) if isinstance(part, Shown)] for n in (16, one)
    ]
    assert shown == [[5], [5]]
    whole = prompts.history([4, 5], [True, True], 512)
    tokens = sum(len(pictures[part.item].ids) if isinstance(part, Shown) else 1 for part in whole)
    assert prompts.history([4, 5], [True, True], tokens) == whole
    assert prompts.history([4, 5], [True, True], tokens - 1) == prompts.history([5], [True], 512)
