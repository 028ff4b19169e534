"""An item's words through a text encoder: the mean over their tokens, or the first token's last hidden state.

The words are those that a MIRM reads (title ; attributes ; text), cut to `max_tokens` with the tokenizer's own special
tokens around them. An item without words has no key, so that its vector is zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import AutoTokenizer

from pipeline.catalog.catalogue import Items
from pipeline.encoders.checkpoint import Checkpoint, unreadable
from pipeline.errors import MolarError
from pipeline.mirm import cache
from pipeline.mirm.once import packed
from pipeline.mirm.prompt import words_of
from pipeline.params.embed_items import TextEncoder


class Texts:
    """One text encoder over one catalogue."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        items: Items,
        params: TextEncoder,
        precision: str,
        batch_tokens: int,
        device: torch.device,
    ) -> None:
        """Raises MolarError: no tokenizer, or more `max_tokens` than the model has positions for."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.source, revision=checkpoint.revision)
        except (ImportError, OSError, ValueError) as error:  # some need a library of their own
            raise unreadable(checkpoint, "tokenizer", error) from None
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of a folder without its files
            raise unreadable(checkpoint, "tokenizer", ValueError("it knows no words"))
        positions = getattr(checkpoint.config, "max_position_embeddings", None) or params.max_tokens
        most = min(positions, tokenizer.model_max_length)
        if params.max_tokens > most:
            raise MolarError(
                f"embed_items.text_encoder.max_tokens = {params.max_tokens}: {checkpoint.source} reads {most} at most"
            )
        self.pooling, self.device, self._batch_tokens = params.pooling, device, batch_tokens
        self.model = checkpoint.load(precision, with_pooler=False, device=device)
        self._pad_id: int = tokenizer.pad_token_id or 0  # masked out, so any id will do
        texts = [words_of(items, item) for item in range(len(items))]
        # A catalogue's words are data: "[SEP]" in a title must stay a word.
        self.ids = [
            tokenizer(text, truncation=True, max_length=params.max_tokens, split_special_tokens=True).input_ids
            if text
            else []
            for text in texts
        ]
        self.about = f"text encoder {checkpoint.source}, {params.pooling}, {precision}"
        self.scope = checkpoint.scope(params.pooling, precision)

    def key(self, item: int) -> bytes | None:
        """What the item's vector depends on, besides the model; None: no words."""
        return cache.item_key(self.ids[item], None) if self.ids[item] else None

    def batches(self, items: Sequence[int]) -> Iterator[list[int]]:
        """These items, longest first, about `batch_tokens` padded tokens a batch."""
        lengths = [len(ids) for ids in self.ids]
        return packed(sorted(items, key=lambda item: (-lengths[item], item)), lengths, self._batch_tokens)

    @torch.inference_mode()
    def encode(self, items: list[int]) -> np.ndarray:
        """float32 (B, D)."""
        longest = max(len(self.ids[item]) for item in items)
        ids_BL = torch.full((len(items), longest), self._pad_id)
        mask_BL = torch.zeros_like(ids_BL)
        for row, item in enumerate(items):  # padded right, whatever the tokenizer's side: the first token is first
            ids_BL[row, : len(self.ids[item])] = torch.tensor(self.ids[item])
            mask_BL[row, : len(self.ids[item])] = 1
        ids_BL, mask_BL = ids_BL.to(self.device), mask_BL.to(self.device)
        hidden_BLD = self.model(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state.float()
        if self.pooling == "cls":
            return hidden_BLD[:, 0].cpu().numpy()
        mask_BL1 = mask_BL[..., None]
        return ((hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1)).cpu().numpy()
