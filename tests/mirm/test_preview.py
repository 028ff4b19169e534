"""The preview shows what fine-tuning draws: prompts masked, answers not, pictures as files."""

from pipeline.mirm.preview import ANSWER, MASKED, MEET, PICTURE, drawn, shots
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Tasks
from tests.mirm.shop import Shop, backbone, recipe, walks


def tasks_of(shop, mirm, **changes):
    return Tasks(shop, walks(), Prompts(shop, mirm.processor, mirm.settings), recipe(steps=40, **changes), 0)


def test_the_first_examples_of_every_kind_as_they_will_be_drawn():
    mirm, shop = backbone(), Shop()
    tasks = tasks_of(shop, mirm)
    shown = list(shots(tasks, 6))
    assert [shot.kind for shot in shown] == ["image_text"] * 6 + ["attributes"] * 6 + ["behaviour"] * 6
    made = [e for step in map(tasks.step, range(40)) if step.kind == "behaviour" for e in step.examples]
    assert all(shot.learnt in made for shot in shown[12:])
    assert {shot.kind for shot in shots(tasks_of(shop, mirm, tasks={"behaviour": 0}), 1)} == {
        "image_text",
        "attributes",
    }


def test_prompt_picture_and_answer_have_their_colours(tmp_path):
    mirm, shop = backbone(), Shop()
    (shot,) = shots(tasks_of(shop, mirm, tasks={"behaviour": 0, "attributes": 0, "image_text_with_text": 0.0}), 1)
    text = drawn(shot, shop, mirm.processor.tokenizer, tmp_path / "pictures")
    picture = tmp_path / "pictures" / f"item-{shot.item}.png"
    assert text.plain == f"item [{picture}]<|item_emb|> square {shop.captions[shot.item].split()[0]}<|im_end|>" or (
        text.plain == f"item [{picture}]<|item_emb|> {shop.captions[shot.item].replace(' ;', '')}<|im_end|>"
    )
    styles = {text.plain[span.start : span.end].strip(): span.style for span in text.spans}
    assert styles["item"] == MASKED and styles[f"[{picture}]"] == PICTURE
    assert next(style for said, style in styles.items() if said.endswith("<|im_end|>")) == ANSWER
    assert picture.read_bytes() == shop.pictures[shot.item]


def test_pairs_are_shown_where_contrast_weighs_and_answers_where_they_do(tmp_path):
    mirm, shop = backbone(), Shop()
    objectives = {
        "image_text": {"answer": 0.0, "contrast": 1.0}, "attributes": {"answer": 1.0, "contrast": 0.5},
        "behaviour": {"answer": 1.0, "contrast": 0.0},
    }  # fmt: skip
    tasks = tasks_of(shop, mirm, tasks={"modalities": 5}, objectives=objectives | {"contrast": 1.0})
    shown = list(shots(tasks, 1))
    assert [(shot.kind, type(shot.learnt).__name__) for shot in shown] == [
        ("image_text", "Pair"), ("attributes", "Example"), ("attributes", "Pair"), ("behaviour", "Example"),
        ("modalities", "Pair"),
    ]  # fmt: skip
    text = drawn(shown[0], shop, mirm.processor.tokenizer, tmp_path).plain
    one, other = text.split(MEET)
    assert one == f"item [{tmp_path / f'item-{shown[0].item}.png'}]<|item_emb|>"
    assert other.endswith("<|item_emb|>") and set(shop.captions[shown[0].item].split(" ; ")[0].split()) <= set(
        other.split()
    )
