"""Tiny random encoders as published checkpoints are laid out: a BERT with its word pieces, a ViT with its processor."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] ; lamp chair number brand alba bonto corvex material oak a long red [ ] sep"
WORDS += " 0 1 2 3 4 5 6 7 8 9 ##0 ##1 ##2 ##3 ##4 ##5 ##6 ##7 ##8 ##9 apple boot cup fruit vessel orchard potter"
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "initializer_range": 0.5}


@cache
def bert() -> Path:
    folder = Path(mkdtemp())
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()) + "\n", "utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(WORDS.split()), hidden_size=24, max_position_embeddings=32, **SIZES)
    BertModel(config).save_pretrained(folder)
    return folder


@cache
def vit(with_pooler: bool = True) -> Path:
    folder = Path(mkdtemp())
    torch.manual_seed(1)
    config = ViTConfig(hidden_size=16, image_size=32, patch_size=16, **SIZES)
    ViTModel(config, add_pooling_layer=with_pooler).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
