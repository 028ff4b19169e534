"""Prompts and answers -> the tensors of one forward pass: right padding, pictures in order, labels on answers alone.

Shape suffixes: B rows, L tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.mirm.pictures import Picture, Pictures, stack
from pipeline.mirm.prompt import Prompt, Shown

IGNORED = -100  # label of a position that no loss counts; PyTorch's own choice


@dataclass(frozen=True)
class Example:
    prompt: Prompt
    answer: list[int] = field(default_factory=list)  # empty when embedding


@dataclass(frozen=True)
class Batch:
    inputs: dict[str, Tensor]  # of the backbone's forward
    labels_BL: Tensor  # int64, IGNORED but on answer tokens
    prompt_lengths_B: Tensor  # int64; the embedding token is each prompt's last


def parts(examples: Sequence[Example], pictures: Pictures, batch_tokens: int) -> list[list[int]]:
    """Rows of each forward pass: all as they are if their padded tokens fit, else several parts of like length.

    Mllama's rows always part by their number of pictures: a row of words alone skips the cross-attention layers when
    it is embedded but not beside one with a picture, and words before a picture attend to padding where rows differ.
    """
    pictures.prepare(_shown(examples))
    lengths = [_length(example, pictures) for example in examples]
    by_count = pictures.family == "mllama"
    shown = [sum(isinstance(part, Shown) for part in example.prompt) if by_count else 0 for example in examples]
    if max(lengths) * len(examples) <= batch_tokens and len(set(shown)) == 1:
        return [list(range(len(examples)))]
    found: list[list[int]] = []
    for row in sorted(range(len(examples)), key=lambda row: (-shown[row], -lengths[row])):
        fits = found and (len(found[-1]) + 1) * lengths[found[-1][0]] <= batch_tokens
        if fits and shown[row] == shown[found[-1][0]]:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def collate(examples: Sequence[Example], pictures: Pictures, pad_id: int) -> Batch:
    """Rows in the order given."""
    pictures.prepare(_shown(examples))
    rows = [_fill(example.prompt, pictures) for example in examples]
    longest = max(len(ids) + len(e.answer) for (ids, _, _), e in zip(rows, examples, strict=True))
    answers = [example.answer for example in examples]
    lengths_B = torch.tensor([len(ids) for ids, _, _ in rows])
    ends_B = lengths_B + torch.tensor([len(answer) for answer in answers])
    ids_BL = _padded([ids + answer for (ids, _, _), answer in zip(rows, answers, strict=True)], longest, pad_id)
    positions_L = torch.arange(longest)
    is_real_BL = positions_L < ends_B[:, None]
    labels_BL = ids_BL.where(is_real_BL & (positions_L >= lengths_B[:, None]), IGNORED)
    shown = [row_pictures for _, _, row_pictures in rows]
    inputs = {"input_ids": ids_BL, "attention_mask": is_real_BL.long()}
    whole = [types + [0] * len(answer) for (_, types, _), answer in zip(rows, answers, strict=True)]
    if any(picture.types is not None for row in shown for picture in row):
        inputs["mm_token_type_ids"] = _padded(whole, longest, 0)
    if pictures.positions and any(shown):
        inputs["position_ids"] = pictures.positions(whole, shown, longest)
    inputs |= stack(shown, pictures.family, pictures.image_token_id, ids_BL)
    return Batch(inputs, labels_BL, lengths_B)


def _padded(rows: Sequence[list[int]], length: int, value: int) -> Tensor:
    """int64 (B, length)."""
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


def _shown(examples: Sequence[Example]) -> Iterator[int]:
    """The items whose pictures the prompts show."""
    return (part.item for example in examples for part in example.prompt if isinstance(part, Shown))


def _length(example: Example, pictures: Pictures) -> int:
    """Tokens of prompt and answer, places filled in."""
    prompt = sum(len(pictures[part.item].ids) if isinstance(part, Shown) else 1 for part in example.prompt)
    return prompt + len(example.answer)


def _fill(prompt: Prompt, pictures: Pictures) -> tuple[list[int], list[int], list[Picture]]:
    """Token ids, token types and pictures of a prompt, places filled in."""
    ids: list[int] = []
    types: list[int] = []
    shown: list[Picture] = []
    for part in prompt:
        if isinstance(part, Shown):
            picture = pictures[part.item]
            ids += picture.ids
            types += picture.types or [0] * len(picture.ids)
            shown.append(picture)
        else:
            ids.append(part)
            types.append(0)
    return ids, types, shown
