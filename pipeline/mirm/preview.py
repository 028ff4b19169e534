"""What fine-tuning examples look like: the prompt as the model reads it, what it must answer, and the pictures.

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
from pipeline.mirm.prompt import Shown
from pipeline.mirm.tasks import Kind, Tasks

PNG = b"\x89PNG"
MASKED, ANSWER, TOKEN, PICTURE = "dim", "bold green", "magenta", "cyan"


@dataclass(frozen=True)
class Shot:
    """One example of a kind, and the item that it is about."""

    kind: Kind
    item: int
    example: Example


def shots(tasks: Tasks, each: int) -> Iterator[Shot]:
    """The first `each` examples of every kind that has answers, kind by kind."""
    for kind in tasks.kinds:
        if kind != "modalities":
            for number in range(each):
                yield Shot(kind, tasks.about(kind, number), tasks.example(kind, number))


def drawn(shot: Shot, items: Items, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Text:
    """The example as coloured text: what no loss counts dimmed, the answer not; its pictures in `folder`."""
    text = Text()
    run: list[int] = []  # of token ids

    def flush() -> None:
        text.append(tokenizer.decode(run), MASKED)
        run.clear()

    for part in shot.example.prompt[:-1]:
        if isinstance(part, Shown):
            flush()
            text.append(f" [{_saved(part.item, items, folder)}]", PICTURE)
        else:
            run.append(part)
    flush()
    text.append(tokenizer.decode(shot.example.prompt[-1:]), TOKEN)
    return text.append(tokenizer.decode(shot.example.answer), ANSWER)


def _saved(item: int, items: Items, folder: Path) -> Path:
    """The item's picture as a file."""
    content = items.image_bytes(item)
    assert content is not None  # prompts only show pictures that exist
    path = folder / f"item-{item}.{'png' if content.startswith(PNG) else 'jpg'}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
