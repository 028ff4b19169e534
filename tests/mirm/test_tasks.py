"""Fine-tuning examples: reproducible, of the params' kinds and modality, and blind to everything held out."""

import numpy as np
import pytest

from pipeline.errors import MolarError
from pipeline.mirm.prompt import Prompts, Shown
from pipeline.mirm.tasks import Tasks
from tests.mirm.shop import HELD_OUT, NUM_ITEMS, NUM_WARM, Shop, backbone, recipe, walks

STEPS = 200


def tasks_of(shop=None, seed=0, **changes):
    params = recipe(steps=STEPS, **changes)
    mirm, shop = backbone(params), shop or Shop()
    prompts = Prompts(shop, mirm.processor, mirm.settings)
    return Tasks(shop, walks(), prompts, params, seed), mirm.processor.tokenizer


def words(tokenizer, prompt):
    return tokenizer.decode([part for part in prompt if not isinstance(part, Shown)])


def test_no_held_out_or_cold_item_is_in_any_example():
    shop = Shop()
    for item in [*HELD_OUT, *range(NUM_WARM, NUM_ITEMS)]:
        shop.titles[item] = shop.captions[item] = shop.summaries[item] = "forbidden"
        shop.attributes[item] = {"brand": "forbidden"}
    tasks, tokenizer = tasks_of(shop)
    forbidden = HELD_OUT | set(range(NUM_WARM, NUM_ITEMS))
    kinds = set()
    for step in map(tasks.step, range(STEPS)):
        kinds.add(step.kind)
        assert not forbidden & set(step.items)
        for example in step.examples:
            assert not forbidden & {part.item for part in example.prompt if isinstance(part, Shown)}
            assert "forbidden" not in words(tokenizer, example.prompt) + tokenizer.decode(example.answer)
    assert kinds == {"image_text", "attributes", "behaviour"}


def test_a_step_depends_on_seed_and_step_alone():
    (first, _), (second, _), (other, _) = tasks_of(), tasks_of(), tasks_of(seed=1)
    later_first = [second.step(s) for s in (7, 3, 5)]
    assert later_first == [first.step(s) for s in (7, 3, 5)]
    assert any(first.step(s) != other.step(s) for s in range(5))


def test_what_is_shown_and_what_is_answered():
    tasks, tokenizer = tasks_of()
    shop, with_words, with_picture = Shop(), set(), set()
    for step in map(tasks.step, range(STEPS)):
        for item, example in zip(step.items, step.examples, strict=True):
            pictures = [part.item for part in example.prompt if isinstance(part, Shown)]
            prompt, answer = words(tokenizer, example.prompt), tokenizer.decode(example.answer[:-1])
            clauses = sorted(answer.split())
            seen, told = shop.captions[item].split(" ; "), [shop.summaries[item], *shop.attributes[item].values()]
            if step.kind == "image_text":
                assert pictures == [item]
                with_words.add(shop.titles[item] in prompt)
                assert clauses == sorted(seen + told if shop.titles[item] in prompt else seen)
            elif step.kind == "attributes":
                assert pictures in ([], [item]) and shop.titles[item] in prompt
                with_picture.add(bool(pictures))
                assert clauses == sorted(told)
            else:
                assert prompt.endswith(" next<|item_emb|>") and answer.strip() == shop.titles[item]
                assert f"number {(item - 1) % 14} " in prompt  # what came before it in the walk
    assert with_words == with_picture == {True, False}


def test_answers_hold_one_clause_or_all_in_order_or_not():
    def answers(answer):
        tasks, tokenizer = tasks_of(tasks={"image_text": 0, "behaviour": 0, "answer": answer})
        return {tokenizer.decode(e.answer[:-1]).strip() for s in range(50) for e in tasks.step(s).examples}

    kinds, brands = ("lamp", "chair"), ("alba", "bonto", "corvex")
    assert answers("one") == {*kinds, *brands, "oak"}
    assert answers("all") == {f"{kind} {brand} oak" for kind in kinds for brand in brands}
    assert len(answers("shuffled")) > 20 and all(len(said.split()) == 3 for said in answers("shuffled"))


def test_text_modality_shows_no_picture():
    tasks, _ = tasks_of(modality="text")
    assert tasks.kinds == ["attributes", "behaviour"]
    for step in map(tasks.step, range(STEPS)):
        assert not any(isinstance(part, Shown) for example in step.examples for part in example.prompt)


def test_image_modality_shows_no_words():
    tasks, tokenizer = tasks_of(modality="image")
    assert tasks.kinds == ["image_text", "behaviour"]
    for step in map(tasks.step, range(STEPS)):
        for example in step.examples:
            assert words(tokenizer, example.prompt) in ("item<|item_emb|>", "item next<|item_emb|>")
            assert any(isinstance(part, Shown) for part in example.prompt)


def test_image_modality_asks_for_no_item_without_a_picture():
    """All such have one prompt, and would be each other's negatives."""
    shop = Shop()
    shop.has_image = np.arange(NUM_ITEMS) % 2 == 0
    tasks, _ = tasks_of(shop, modality="image", objectives={"behaviour": {"answer": 1.0, "contrast": 1.0}})
    targets = [item for step in map(tasks.step, range(STEPS)) if step.kind == "behaviour" for item in step.items]
    assert targets and all(shop.has_image[item] for item in targets)


def test_item_without_caption_answers_its_picture_with_its_title_and_is_not_shown_it():
    shop = Shop()
    shop.captions = [None] * NUM_ITEMS
    tasks, tokenizer = tasks_of(shop, tasks={"attributes": 0, "behaviour": 0, "image_text_with_text": 1.0})
    step = tasks.step(0)
    for item, example in zip(step.items, step.examples, strict=True):
        assert tokenizer.decode(example.answer[:-1]).strip() == shop.titles[item]
        assert words(tokenizer, example.prompt) == "item<|item_emb|>"


def test_a_catalogue_without_any_example_is_an_error():
    shop = Shop()
    shop.has_image[:] = False
    with pytest.raises(MolarError) as error:
        tasks_of(shop, tasks={"attributes": 0, "behaviour": 0})
    assert str(error.value) == (
        "finetune_mirm.tasks: the catalogue has no example of image_text for finetune_mirm.modality = 'text+image': "
        "raise another task above 0, or set tuning: none"
    )


def test_what_is_kept_apart_is_in_no_step():
    tasks, _ = tasks_of(held_out=0.3, tasks={"behaviour": 0})
    asked = tasks.held_out()
    assert (
        all(examples for examples, _ in asked.values())
        and asked == tasks_of(held_out=0.3, tasks={"behaviour": 0})[0].held_out()
    )
    apart = {part.item for part in (p for e in asked["image_text"][0] for p in e.prompt) if isinstance(part, Shown)}
    assert len(apart) == round(0.3 * 14)
    assert not apart & {item for step in map(tasks.step, range(STEPS)) for item in step.items}


def test_users_kept_apart_are_in_no_step():
    only = {"image_text": 0, "attributes": 0, "behaviour": 200, "behaviour_with_image": 1.0, "behaviour_history": 1}
    tasks, _ = tasks_of(held_out=0.5, tasks=only)
    made = {str(example) for step in map(tasks.step, range(STEPS)) for example in step.examples}
    every, _ = tasks_of(tasks=only)
    assert len(made) < len({str(example) for step in map(every.step, range(STEPS)) for example in step.examples})
    assert set(tasks.held_out()) == {"behaviour"} and tasks.held_out()["behaviour"][0]


def test_every_example_is_read_once_before_any_is_read_again():
    counts = {"image_text": 24, "attributes": 12, "behaviour": 0}
    tasks, _ = tasks_of(batch_size=4, tasks=counts, objectives={"image_text": {"answer": 1.0, "contrast": 1.0}})
    drawn = {kind: [] for kind in ("image_text", "attributes")}
    for step in map(tasks.step, range(STEPS)):
        drawn[step.kind] += zip(map(str, step.items), map(str, step.examples), strict=True)
    for kind, made in drawn.items():
        count = counts[kind]
        all_of_them = sorted((str(tasks.about(kind, n)), str(tasks.example(kind, n))) for n in range(count))
        epochs = [sorted(made[start : start + count]) for start in range(0, len(made) - count + 1, count)]
        assert len(epochs) > 3 and all(epoch == all_of_them for epoch in epochs)
        assert made[:count] != made[count : 2 * count], "in another order"


def test_examples_are_spread_evenly_over_the_items():
    tasks, _ = tasks_of(tasks={"image_text": 28, "attributes": 5})
    about = [tasks.about("image_text", n) for n in range(28)]
    assert sorted(about) == sorted([*range(14), *range(14)])
    assert len({tasks.about("attributes", n) for n in range(5)}) == 5
    again = [tasks.example("image_text", n) for n in range(28)]
    assert any(again[n] != again[n + 14] for n in range(14)), "with other clauses"
