"""A backbone that cannot be used is told in one line, before any weight is read."""

import json

import pytest
import torch

from pipeline.errors import MolarError
from pipeline.mirm.backbone import family_of, load_model, load_processor, locate
from tests.mirm.shop import _built


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
