"""DUEG (paper 3.4): the text decoder of a multimodal LLM reads item vectors where it used to read words.

The decoder keeps its pretrained weights and loses its word embeddings (paper: "removing the word embedding layer").
Every position's last hidden state is a user vector, so one pass trains on every next item (all-position training;
the paper's single [User] token would be the last position). Padding is on the right: causality keeps it out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # transformers takes seconds to import, and an ID-based recommender needs none of it
    from transformers import PreTrainedModel


class Decoder(nn.Module):
    """Item vectors (B, L, D) -> user vectors (B, L, D), D being the decoder's hidden size.

    Where a row ends, and whose it is, is all one to it: its positions are relative, and causality keeps padding out.
    """

    def __init__(self, body: PreTrainedModel, dropout: float) -> None:
        super().__init__()
        self.body, self.dropout = body, dropout
        self.dim: int = body.config.hidden_size
        body.config.attention_dropout = dropout
        for module in body.modules():  # the families read it from the config when built, so mend what is built
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = dropout

    def forward(self, items_BLD: Tensor, last_B: Tensor, users_B: Tensor) -> Tensor:
        inputs_BLD = F.dropout(items_BLD, self.dropout, self.training)
        return F.dropout(
            self.body(inputs_embeds=inputs_BLD, use_cache=False).last_hidden_state, self.dropout, self.training
        )


def decoder_of(mirm: Path, *, pretrained: bool, dropout: float) -> Decoder:
    """The decoder of the MIRM saved at `mirm`, with its weights or (pretrained=False) freshly drawn ones.

    Loaded through the whole multimodal model: `AutoModel.from_pretrained(vlm, config=text_config)` silently leaves
    several families' decoders at random values.
    """
    from huggingface_hub.errors import StrictDataclassFieldValidationError
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if pretrained:
        body = AutoModelForImageTextToText.from_pretrained(mirm, dtype=torch.float32).get_decoder()
    else:
        body = AutoModelForImageTextToText.from_config(
            AutoConfig.from_pretrained(mirm), dtype=torch.float32
        ).get_decoder()
    body.set_input_embeddings(nn.Embedding(1, body.config.hidden_size))  # never read: inputs are item vectors
    body.config.vocab_size = 1
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):  # words it no longer has
        try:
            setattr(body.config, name, None)
        except StrictDataclassFieldValidationError:  # Mllama's must be a number
            setattr(body.config, name, 0)
    return Decoder(body, dropout)


def save_decoder(decoder: Decoder, directory: Path) -> None:
    """A folder that plain `AutoModel.from_pretrained` opens."""
    decoder.body.save_pretrained(directory)


def load_decoder(directory: Path) -> Decoder:
    """The saved decoder, for inference (no dropout)."""
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return Decoder(AutoModel.from_pretrained(directory, dtype=torch.float32), dropout=0.0)
