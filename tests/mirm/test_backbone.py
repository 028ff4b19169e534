"""A backbone that cannot be used, or not wholly, is told in one line."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import MolarError
from pipeline.mirm.backbone import family_of, load_model, load_processor, locate
from tests.mirm.families import BUILDERS, as_published, folder
from tests.mirm.shop import _built

ADVICE = (
    ": give the folder of a checkpoint as save_pretrained writes it, or a hub id with network (or its files in the "
    "hub's cache)"
)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def refusal(call) -> str:
    with pytest.raises(MolarError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def copied(source, directory, *, without=()):
    """A checkpoint's folder without some of its files."""
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns(*without))
    return directory


def rewritten(directory, change):
    """The folder, each of its tensors as `change(name, tensor)` gives it, None: left out."""
    path = directory / "model.safetensors"
    changed = {name: change(name, tensor) for name, tensor in load_file(path).items()}
    save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, path, {"format": "pt"})
    return directory


def test_unsupported_family_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_next"}))
    with pytest.raises(MolarError) as error:
        family_of(tmp_path)
    assert str(error.value) == (
        f"finetune_mirm.backbone: folder {tmp_path} is of the unsupported family 'llava_next': choose one of "
        "qwen2_vl, qwen2_5_vl, qwen3_vl, internvl, deepseek_vl, mllama"
    )


def test_a_checkpoint_of_remote_code_leads_to_its_native_edition(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl_chat"}))
    with pytest.raises(MolarError) as error:
        family_of(tmp_path)
    assert str(error.value) == (
        f"finetune_mirm.backbone: folder {tmp_path} is of the unsupported family 'internvl_chat': it runs by remote "
        "code alone; an edition in native format is OpenGVLab/InternVL3-2B-hf"
    )


def test_missing_folder_is_named():
    with pytest.raises(MolarError) as error:
        locate("./models/qwen")
    assert str(error.value) == (
        "finetune_mirm.backbone = './models/qwen': no such folder (tiny, a local folder, or a hub id such as "
        "Qwen/Qwen2-VL-2B-Instruct)"
    )
    assert locate("Qwen/Qwen2-VL-2B-Instruct") == "Qwen/Qwen2-VL-2B-Instruct"


def test_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(MolarError) as error:
        family_of(tmp_path)
    assert str(error.value) == (
        f"finetune_mirm.backbone: folder {tmp_path}: holds no readable config.json: give the folder of a checkpoint "
        "as save_pretrained writes it, or a hub id with network (or its files in the hub's cache)"
    )


def test_precision_wins_over_the_configs_own():
    assert load_model(_built(56 * 56), "bfloat16").dtype == torch.bfloat16
    assert load_model(_built(56 * 56), "float32").dtype == torch.float32


def test_pictures_are_bounded_to_image_pixels():
    size = dict(load_processor(_built(56 * 56), 112 * 112).image_processor.size)
    assert size == {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}


@pytest.mark.parametrize("family", BUILDERS)
def test_weights_that_a_checkpoint_lacks_are_not_drawn_at_random(family, tmp_path):
    """Some of the decoder, whole or of another shape, and the head that answers, where it is not the embeddings."""
    names = [f"model.language_model.layers.1.mlp.{part}_proj.weight" for part in ("down", "gate", "up")]
    cut = rewritten(
        copied(folder(family), tmp_path / "cut"),
        lambda name, tensor: None if re.search(r"layers\.1\.mlp\.\w+_proj", name) else tensor,
    )
    expected = f"finetune_mirm.backbone: folder {cut} lacks the weights {', '.join(names)} of its model{ADVICE}"
    assert refusal(lambda: load_model(cut, "float32")) == expected
    other = rewritten(
        copied(folder(family), tmp_path / "other"),
        lambda name, tensor: tensor[:-1].clone() if name.endswith("layers.1.mlp.up_proj.weight") else tensor,
    )
    assert f" lacks the weights {names[2]} of its model" in refusal(lambda: load_model(other, "float32"))
    headless = rewritten(
        copied(folder(family), tmp_path / "headless"), lambda name, tensor: None if "lm_head" in name else tensor
    )
    if any("lm_head" in name for name in load_file(folder(family) / "model.safetensors")):
        assert " lacks the weights lm_head.weight of " in refusal(lambda: load_model(headless, "float32"))
    else:
        assert load_model(headless, "float32").config.tie_word_embeddings


def test_a_head_that_no_item_is_read_through_may_be_missing(tmp_path):
    pooled = copied(folder("deepseek_vl"), tmp_path / "deepseek")
    rewritten(pooled, lambda name, tensor: None if ".vision_model.head." in name else tensor)
    assert load_model(pooled, "float32").config.model_type == "deepseek_vl"


@pytest.mark.parametrize("size", [None, 5, 10_000], ids=["absent", "no header", "half"])
def test_absent_and_truncated_weights_are_named(size, tmp_path):
    broken = copied(_built(56 * 56), tmp_path / "broken", without=["model.safetensors"])
    if size is not None:
        (broken / "model.safetensors").write_bytes((_built(56 * 56) / "model.safetensors").read_bytes()[:size])
    words = refusal(lambda: load_model(broken, "float32"))
    assert words.startswith(f"finetune_mirm.backbone: folder {broken} has no readable weights (")
    assert words.endswith(f"){ADVICE}")


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("files", [TOKENIZER, TOKENIZER[:1], ["processor_config.json"]])
def test_a_folder_without_its_processor_or_tokenizer_is_named(family, files, tmp_path):
    broken = copied(folder(family), tmp_path / "broken", without=files)
    words = refusal(lambda: load_processor(broken, 56 * 56))
    assert words.startswith(f"finetune_mirm.backbone: folder {broken} has no readable ")
    assert words.endswith(f"){ADVICE}")


@pytest.mark.parametrize("name", ["tokenizer.json", "processor_config.json"])
def test_a_truncated_processor_or_tokenizer_is_named(name, tmp_path):
    broken = copied(_built(56 * 56), tmp_path / "broken")
    (broken / name).write_bytes((broken / name).read_bytes()[:100])
    words = refusal(lambda: load_processor(broken, 56 * 56))
    assert words.startswith(f"finetune_mirm.backbone: folder {broken} has no readable processor (")


def test_a_tokenizer_that_knows_special_tokens_alone_is_refused(tmp_path):
    expected = "finetune_mirm.backbone: folder {} has no readable tokenizer (it knows no words)" + ADVICE
    native = copied(_built(56 * 56), tmp_path / "native", without=TOKENIZER)
    assert refusal(lambda: load_processor(native, 56 * 56)) == expected.format(native)
    published = as_published(tmp_path / "published")  # whose tokenizer_config.json tells the special ones
    for name in ("vocab.json", "merges.txt"):
        (published / name).unlink()
    assert refusal(lambda: load_processor(published, 56 * 56)) == expected.format(published)


def test_a_hub_id_out_of_reach_is_named(monkeypatch):
    """Its config.json may be in the hub's cache, and the rest of it not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = "nobody/nothing"
    assert refusal(lambda: family_of(name)) == f"finetune_mirm.backbone: {name}: not found{ADVICE}"
    for what, call in (
        ("processor", lambda: load_processor(name, 56 * 56)),
        ("weights", lambda: load_model(name, "float32")),
    ):
        words = refusal(call)
        assert words.startswith(f"finetune_mirm.backbone: {name} has no readable {what} (")
        assert words.endswith(f"){ADVICE}")
