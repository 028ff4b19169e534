"""One prompt for everything: instruction, picture, words, and at the very end the embedding token.

    item <picture> lantern dovar ; brand alba ; material oak <|item_emb|>            fine-tuning (IT, SA) and embedding
    item <picture> ... <picture> ... next <|item_emb|>                               fine-tuning (UB)

Any modality may be missing. A fine-tuning answer follows the embedding token, so that all it says must have passed
through that position's context: this is what makes its hidden state a summary of the item.

Differs from the paper in: picture before words (as its code does), the sentence "Compress ... into embedding" is the
param `instruction`, and fields carry the catalogue's own names.

Pieces are tokenized apart and joined as ids, so that each is done once; the pieces meet at special tokens or at a
space, where tokenizers split anyhow. Words always start with their space, with a picture before them or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from transformers import ProcessorMixin

from pipeline.catalog.catalogue import Items
from pipeline.mirm.backbone import picture_tokens
from pipeline.mirm.folder import Settings

SEPARATOR = " ; "
TEXTS_KEPT = 65536  # tokenized items in memory, some kilobytes each at most


@dataclass(frozen=True)
class Shown:
    """The place of an item's picture in a prompt."""

    item: int


Prompt = list[int | Shown]  # token ids, and places that pictures fill


def words_of(items: Items, item: int) -> str:
    """Title, attributes and text of an item, in this order; empty if it has none of them."""
    attributes = [f"{name} {value}" for name, value in items.attributes[item].items() if value]
    return SEPARATOR.join(piece for piece in (items.titles[item], *attributes, items.texts[item]) if piece)


class Prompts:
    """Items -> prompts, by one MIRM's settings and tokenizer."""

    def __init__(self, items: Items, processor: ProcessorMixin, settings: Settings) -> None:
        self.items, self.settings = items, settings
        self._tokenizer = processor.tokenizer
        self._picture_tokens = picture_tokens(processor)
        self._ids = lru_cache(TEXTS_KEPT)(self._tokenize)
        self.words = lru_cache(TEXTS_KEPT)(self._words)
        bos = self._tokenizer.bos_token_id
        opens_with_bos = bos is not None and self._tokenizer("").input_ids[:1] == [bos]
        self._opening = ([bos] if opens_with_bos else []) + self._ids(settings.instruction.rstrip())
        self._next = self._ids(" next")

    def item(self, item: int, *, picture: bool = True, words: bool = True) -> Prompt:
        """What is known of an item, of what was asked for, ending with the embedding token."""
        return [*self._opening, *self._content(item, picture, words), self.settings.embedding_token_id]

    def history(
        self, history: Sequence[int], pictures: Sequence[bool], most_tokens: int, *, words: bool = True
    ) -> Prompt:
        """Consecutive items, oldest first, each with its picture if told so; then `next` and the embedding token.

        The oldest are left out where all would take more than `most_tokens`, pictures counted at their largest; the
        newest always stays.
        """
        shown: list[Prompt] = []
        tokens = len(self._opening) + len(self._next) + 1
        for item, picture in zip(reversed(history), reversed(pictures), strict=True):
            content = self._content(int(item), picture, words)
            tokens += sum(self._picture_tokens if isinstance(part, Shown) else 1 for part in content)
            if shown and tokens > most_tokens:
                break
            shown.append(content)
        parts = [part for content in reversed(shown) for part in content]
        return [*self._opening, *parts, *self._next, self.settings.embedding_token_id]

    def saying(self, clauses: Sequence[str]) -> Prompt:
        """Words alone that are no item's own, such as the description of a picture."""
        ids = self._ids(f" {SEPARATOR.join(clauses)}")[: self.settings.max_text_tokens]
        return [*self._opening, *ids, self.settings.embedding_token_id]

    def answer(self, clauses: Sequence[str]) -> list[int]:
        """Token ids of the clauses (at least one), cut to `max_text_tokens`, and the end token."""
        ids = [token for clause in clauses for token in self._ids(f" {clause}")]
        return [*ids[: self.settings.max_text_tokens], self._tokenizer.eos_token_id]

    def _content(self, item: int, picture: bool, words: bool) -> Prompt:
        picture = picture and bool(self.items.has_image[item])
        return [*([Shown(item)] if picture else []), *(self.words(item) if words else [])]

    def _words(self, item: int) -> list[int]:
        """Title, attributes and text, cut to `max_text_tokens` here, so that no cut ever reaches the last token."""
        text = words_of(self.items, item)
        return self._tokenize(f" {text}")[: self.settings.max_text_tokens] if text else []

    def _tokenize(self, text: str) -> list[int]:
        # A catalogue's words are data: "<|im_end|>" in a title must stay a word.
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
