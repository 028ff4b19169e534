"""What fine-tuning examples look like: prompts as the model reads them, what it must answer, and the pictures.

An example learnt by its answer is a prompt and that answer; one learnt by contrast is two prompts whose embeddings
should meet; a kind with weights for both is shown as both.

Nothing is trained and nothing of the pipeline is written; pictures go to a folder of the caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from transformers import PreTrainedTokenizerBase

from pipeline.catalog.catalogue import Items
from pipeline.mirm.batch import Example
from pipeline.mirm.pairs import Pair
from pipeline.mirm.prompt import Prompt, Shown
from pipeline.mirm.tasks import Kind, Tasks

PNG = b"\x89PNG"
MASKED, ANSWER, TOKEN, PICTURE = "dim", "bold green", "magenta", "cyan"
MEET = " <-> "  # between the two prompts of a pair


@dataclass(frozen=True)
class Shot:
    """One example of a kind, and the item that it is about."""

    kind: Kind
    item: int
    learnt: Example | Pair


def shots(tasks: Tasks, each: int) -> Iterator[Shot]:
    """The first `each` examples of every kind, kind by kind: answers first, then pairs, where they weigh anything."""
    for kind in tasks.kinds:
        weights = tasks.weights(kind)
        for weight, made in ((weights.answer, tasks.example), (weights.contrast, tasks.pair)):
            for number in range(each if weight else 0):
                yield Shot(kind, tasks.about(kind, number), made(kind, number))


def drawn(shot: Shot, items: Items, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Text:
    """The example as coloured text: prompts dimmed, the answer not; its pictures in `folder`."""
    learnt = shot.learnt
    if isinstance(learnt, Pair):
        one, other = (_prompt(prompt, items, tokenizer, folder) for prompt in (learnt.one, learnt.other))
        return one.append(MEET, ANSWER).append(other)
    return _prompt(learnt.prompt, items, tokenizer, folder).append(tokenizer.decode(learnt.answer), ANSWER)


def _prompt(prompt: Prompt, items: Items, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Text:
    text = Text()
    run: list[int] = []  # of token ids

    def flush() -> None:
        text.append(tokenizer.decode(run), MASKED)
        run.clear()

    for part in prompt[:-1]:
        if isinstance(part, Shown):
            flush()
            text.append(f" [{_saved(part.item, items, folder)}]", PICTURE)
        else:
            run.append(part)
    flush()
    return text.append(tokenizer.decode(prompt[-1:]), TOKEN)


def _saved(item: int, items: Items, folder: Path) -> Path:
    """The item's picture as a file."""
    content = items.image_bytes(item)
    assert content is not None  # prompts only show pictures that exist
    path = folder / f"item-{item}.{'png' if content.startswith(PNG) else 'jpg'}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
