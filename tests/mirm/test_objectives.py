"""Contrastive fine-tuning: which prompts should meet, and gradients in parts that equal those of the plain loss."""

import pytest
import torch
from pydantic import ValidationError

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.mirm.objectives import Losses, Steps, answer_gradients, contrast_gradients
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts, Shown
from pipeline.mirm.tasks import Tasks
from tests.mirm.shop import HELD_OUT, NUM_ITEMS, NUM_WARM, Shop, backbone, recipe, walks

BOTH = {"answer": 1.0, "contrast": 0.5}
ALL_BOTH = {"image_text": BOTH, "attributes": BOTH, "behaviour": BOTH}
ONLY = {"image_text": 0, "attributes": 0, "behaviour": 0, "modalities": 0}


def steps_of(mirm=None, shop=None, **changes):
    mirm, shop, params = mirm or backbone(), shop or Shop(), recipe(**{"steps": 40, **changes})
    tasks = Tasks(shop, walks(), Prompts(shop, mirm.processor, mirm.settings), params, 0)
    return Steps(tasks, Pictures(shop, mirm), mirm, params)


def told(prompt, mirm):
    """A prompt in words, pictures as [item]."""
    pieces = [
        f"[{part.item}]" if isinstance(part, Shown) else mirm.processor.tokenizer.decode([part]) for part in prompt
    ]
    return "".join(pieces)


def pairs_of(kind, **tasks):
    mirm = backbone()
    steps = steps_of(mirm, tasks=ONLY | {kind: 60} | tasks, objectives=ALL_BOTH)
    drawn = [steps.tasks.step(number) for number in range(30)]
    return [
        (told(p.one, mirm), told(p.other, mirm), p.key, item)
        for s in drawn
        for p, item in zip(s.pairs, s.items, strict=True)
    ]


def test_a_picture_meets_its_description():
    shop = Shop()
    for one, other, _, item in pairs_of("image_text"):
        assert one == f"item[{item}]<|item_emb|>"
        assert other == f"item {shop.captions[item]}<|item_emb|>"
    keys = {(other, key) for _, other, key, _ in pairs_of("image_text")}
    assert len(keys) == len({key for _, key in keys}) == 3, "one key for one description"


def test_words_meet_the_sentence_of_what_they_say():
    shop = Shop()
    pictures = set()
    for one, other, _, item in pairs_of("attributes"):
        pictures.add(f"[{item}]" in one)
        assert shop.titles[item] in one
        assert other == f"item {shop.summaries[item]} ; {shop.attributes[item]['brand']} ; oak<|item_emb|>"
    assert pictures == {True, False}


def test_a_history_meets_the_next_training_item():
    for one, other, key, item in pairs_of("behaviour"):
        assert " next" in one and other.startswith(f"item[{item}]") and key == item


def test_an_item_meets_each_of_its_modalities():
    others = set()
    for one, other, key, item in pairs_of("modalities"):
        assert f"[{item}]" in one and f"number {item}" in one and key == item
        others.add((f"[{item}]" in other, f"number {item}" in other))
    assert others == {(True, False), (False, True)}


def test_nothing_held_out_is_in_a_pair():
    forbidden = HELD_OUT | set(range(NUM_WARM, NUM_ITEMS))
    for kind in ONLY:
        for one, other, _, item in pairs_of(kind):
            assert item not in forbidden and not any(f"[{i}]" in one + other for i in forbidden)


def test_contrast_moves_no_answer():
    plain, both = steps_of().tasks, steps_of(objectives=ALL_BOTH).tasks
    for number in range(20):
        assert plain.step(number).examples == both.step(number).examples
        assert not plain.step(number).pairs and len(both.step(number).pairs) == len(both.step(number).examples)


def test_answers_may_be_left_out_but_not_both():
    tasks = steps_of(objectives={"image_text": {"answer": 0.0, "contrast": 1.0}}, tasks=ONLY | {"image_text": 1}).tasks
    assert not tasks.step(0).examples and tasks.step(0).pairs and not any(map(any, tasks.held_out().values()))
    with pytest.raises(ValidationError, match="answer and contrast are both 0"):
        recipe(objectives={"image_text": {"answer": 0.0, "contrast": 0.0}})


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("budget", [64, 100_000])
def test_gradients_in_parts_are_those_of_the_plain_loss(dropout, budget):
    """Naively: every embedding with its graph at once. With dropout both must draw the same."""
    mirm = backbone()
    for module in mirm.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = dropout
    mirm.model.train()
    steps = steps_of(mirm, tasks=ONLY | {"modalities": 60}, batch_size=8, batch_tokens=budget)
    given, model = steps[0], Losses(mirm.model)
    views = [own for own, _ in given["views"]]
    assert (len(views[0]) > 1) == (budget == 64)
    found = []
    for naive in (True, False):
        mirm.model.zero_grad()
        torch.manual_seed(7)
        if naive:
            sides = []
            for side in views:
                rows = torch.cat([model(inputs, None, last_B) for inputs, last_B, _ in side])
                sides.append(rows[torch.cat([places for *_, places in side]).argsort()])
            loss = symmetric_info_nce(*sides, same_but_itself(given["keys_T"]), 0.07)
            (loss * given["weights"].contrast).backward()
        else:
            passes = [[(part, True) for part in side] for side in views]
            loss = contrast_gradients(model, torch.Tensor.backward, passes, given, 0.07)
        after = torch.rand(3)
        found.append(
            (loss.detach(), after, {n: p.grad.clone() for n, p in mirm.model.named_parameters() if p.grad is not None})
        )
    (loss, after, gradients), (ours, ours_after, our_gradients) = found
    torch.testing.assert_close(ours, loss)
    assert torch.equal(ours_after, after), "the random stream goes on as if there had been one pass"
    assert gradients.keys() == our_gradients.keys() and len(gradients) > 10
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_weights_scale_the_gradients():
    mirm = backbone()
    steps = steps_of(mirm, tasks=ONLY | {"image_text": 1}, objectives=ALL_BOTH)
    given, model, found = steps[0], Losses(mirm.model), []
    for weight in (1.0, 0.25):
        mirm.model.zero_grad()
        passes = [(part, True) for part in given["answers"][0]]
        answer_gradients(model, torch.Tensor.backward, passes, given["tokens"], weight)
        found.append(mirm.model.get_input_embeddings().weight.grad.clone())
    torch.testing.assert_close(found[1], 0.25 * found[0])


def test_the_loss_equals_a_double_loop():
    torch.manual_seed(0)
    one, other, keys = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([1, 2, 1, 3, 4])
    total = 0.0
    for a, b in ((one, other), (other, one)):
        for t in range(5):
            scores = [torch.cosine_similarity(a[t], b[j], 0) / 0.2 for j in range(5) if j == t or keys[j] != keys[t]]
            mine = torch.cosine_similarity(a[t], b[t], 0) / 0.2
            total += (torch.logsumexp(torch.stack(scores), 0) - mine).item() / 5
    assert symmetric_info_nce(one, other, same_but_itself(keys), 0.2).item() == pytest.approx(total, rel=1e-5)


def test_without_contrast_answers_alone_are_left_and_they_are_the_same():
    literal = steps_of(objectives=ALL_BOTH | {"contrast": 0.0}, tasks={"modalities": 40}).tasks
    plain = steps_of().tasks
    assert literal.kinds == plain.kinds == ["image_text", "attributes", "behaviour"]
    for step in range(10):
        assert literal.step(step).examples == plain.step(step).examples and not literal.step(step).pairs
    with pytest.raises(ValidationError, match="image_text"):
        recipe(objectives={"image_text": {"answer": 0.0, "contrast": 1.0}, "contrast": 0.0})
