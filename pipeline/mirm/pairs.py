"""Pairs of prompts whose embeddings should meet: contrastive fine-tuning, beside or in place of answers.

| kind       | one prompt                              | the other                                            |
|------------|-----------------------------------------|------------------------------------------------------|
| image_text | the picture alone                       | its description: the caption, or else the words      |
| attributes | the words, at times the picture as well | the sentence of what they say: summary, attributes   |
| behaviour  | a user's last items, and `next`         | the next training item, as it will be embedded       |
| modalities | picture and words, as embedded          | one of the two alone, so that neither is neglected   |

The rest of a batch are the negatives, but for pairs of the same `key`: the same words, or the same item.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from pipeline.mirm.prompt import Prompt, Prompts


@dataclass(frozen=True)
class Pair:
    one: Prompt
    other: Prompt
    key: int  # of what both are about; pairs of one key are no negatives of each other


class Pairs:
    """Makes the pairs of each kind; which modalities there are is the MIRM's affair."""

    def __init__(self, prompts: Prompts, *, with_words: bool, with_pictures: bool) -> None:
        self._prompts, self._words, self._pictures = prompts, with_words, with_pictures

    def image_text(self, item: int, described: list[str]) -> Pair:
        return Pair(self._prompts.item(item, words=False), self._prompts.saying(described), _key(described))

    def attributes(self, item: int, said: list[str], picture: bool) -> Pair:
        return Pair(self._prompts.item(item, picture=picture), self._prompts.saying(said), _key(said))

    def behaviour(self, history: Prompt, target: int) -> Pair:
        return Pair(history, self._whole(target), target)

    def modalities(self, item: int, rng: np.random.Generator) -> Pair:
        picture = bool(rng.random() < 0.5)
        return Pair(self._whole(item), self._prompts.item(item, picture=picture, words=not picture), item)

    def _whole(self, item: int) -> Prompt:
        return self._prompts.item(item, picture=self._pictures, words=self._words)


def _key(clauses: list[str]) -> int:
    """The same for the same words, in whatever order, in every process."""
    digest = hashlib.sha256(" ; ".join(sorted(clauses)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
