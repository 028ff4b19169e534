"""benchmarks/cost.py: parameters as published, and hours that follow from the doctor's sums."""

from __future__ import annotations

import pytest

from benchmarks.cost import BACKBONES, DATA_SETS, EPOCHS, cost, costs, main, sizes
from pipeline.doctor.model import sized

PIXELS = 112 * 112

# Of the published checkpoints' files; deepseek's is rounded as its page has it.
PUBLISHED = {
    "Qwen2-VL-2B": 2_208_985_600,
    "InternVL2.5-2B": 2_205_754_368,
    "Qwen2-VL-7B": 8_291_375_616,
    "Llama-3.2-11B-Vision": 10_670_220_835,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_backbone_has_its_published_parameters(name: str) -> None:
    assert sized(BACKBONES[name], PIXELS).total == PUBLISHED[name]


def test_the_parts_make_the_whole() -> None:
    size = sized(BACKBONES["Qwen2-VL-2B"], PIXELS)
    assert size.decoder + size.words + size.vision == size.total  # tied words, and the merger lies in the tower
    assert (size.picture_tokens, size.patches) == (16, 64)
    assert round(sized(BACKBONES["deepseek-vl-1.3b"], PIXELS).total / 1e9, 1) == 2.0


def test_every_item_once_and_re_encoding_by_hand() -> None:
    size, data = sized(BACKBONES["Qwen2-VL-2B"], 84 * 84), DATA_SETS["PixelRec"]
    found = cost(size, data, lora=False)
    tokens = 3 + 96 + 9  # opening and embedding token, words, picture
    forward = 2 * (size.decoder * tokens + size.vision * 36)
    assert found.item_tokens == pytest.approx(tokens)
    assert found.embed == pytest.approx(data.items * forward)
    targets = data.interactions - 3 * data.users  # two held out, and the first item is no target
    encoded = 2 * (targets + data.users)
    again = EPOCHS * (3 * encoded + data.items) * forward
    assert found.reencoding == pytest.approx(again + found.dueg)
    assert cost(size, data, lora=True).finetune < found.finetune


def test_the_tables_are_markdown_with_a_row_for_each_pair(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(sizes())) == 2 + len(BACKBONES)
    rows = list(costs(989e12))
    assert len(rows) == 2 + len(BACKBONES) * len(DATA_SETS) and len({row.count("|") for row in rows}) == 1
    main("a100")
    assert "One A100: 50% of 312 TFLOPs" in capsys.readouterr().out
