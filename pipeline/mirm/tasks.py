"""The three kinds of fine-tuning data (paper 3.3): so many examples of each, the same ones from epoch to epoch.

| kind       | prompt (then the embedding token)                | answer: one clause, or all                    |
|------------|--------------------------------------------------|-----------------------------------------------|
| image_text | picture, sometimes with the words as well        | of the caption; with words, of SA's too       |
| attributes | words: title, attributes, text; at times picture | of the summary, or an attribute's value       |
| behaviour  | a user's last items, some with picture; `next`   | the title of the next training item           |

An answer is one clause of these, drawn at random (`answer: one`): the embedding token's position, the one before the
answer, must then foresee every clause, and a large part of the loss is about that. With all clauses in one answer,
most of the loss sits at later positions, which can look back at the picture for themselves. For the same reason
attributes answer with their bare value: no answer may open with an attribute's name. `docs/results.md` has the linear
probes that decided it. An item without a caption answers its picture with its title, or else its text.

Where a catalogue has fewer items than examples, each is drawn about equally often, with other clauses and pictures;
where it has more, some are left out. All examples of a kind are read once before one is read again.

Promise: example n of a kind and step s of a seed are always the same, whatever ran before, so a resumed run needs no
sampler state; and only items with interactions in training parts appear, with training interactions as history: never
a validation or test interaction, never a cold item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from pipeline.catalog.catalogue import Items, Sequences
from pipeline.errors import MolarError
from pipeline.mirm.batch import Example
from pipeline.mirm.pairs import Pair, Pairs
from pipeline.mirm.prompt import Prompt, Prompts
from pipeline.params.finetune_mirm import FinetuneMirm, Objective

Kind = Literal["image_text", "attributes", "behaviour", "modalities"]
KINDS: tuple[Kind, ...] = ("image_text", "attributes", "behaviour", "modalities")
STREAM, HELD_OUT, CONTRAST, ORDER, TURNS = 1, 2, 3, 4, 5  # keep the draws of one seed apart
MOST_HELD_OUT = 512  # examples a kind that are asked, however many are kept apart


@dataclass(frozen=True)
class Step:
    """One step's batch: all of one kind."""

    kind: Kind
    items: list[int]  # whose picture, words or title each example is about
    examples: list[Example]  # empty where the kind is learnt by contrast alone
    pairs: list[Pair]  # empty where it is learnt by answers alone
    weights: Objective


class Tasks:
    """`tasks.step(s)` -> Step, for s = 0, 1, 2, ..."""

    def __init__(self, items: Items, sequences: Sequences, prompts: Prompts, params: FinetuneMirm, seed: int) -> None:
        self._items, self._sequences, self._prompts, self._seed = items, sequences, prompts, seed
        self._tasks = params.tasks
        self._batch_size, self._steps = params.batch_size, params.steps
        self._with_words, self._with_pictures = "text" in params.modality, "image" in params.modality
        self._pairs = Pairs(prompts, with_words=self._with_words, with_pictures=self._with_pictures)

        trained = np.flatnonzero(sequences.training_counts()).tolist()
        kept_apart, users_apart = self._apart(np.array(trained, np.int64), params.held_out)
        pictured = [i for i in trained if items.has_image[i] and self._seen_clauses(i)] if self._with_pictures else []
        worded = [i for i in trained if prompts.words(i) and self._said_clauses(i)] if self._with_words else []
        shown = [self._with_words or bool(items.has_image[i]) for i in range(len(items))]  # else all have one prompt
        positions = self._positions(np.array([bool(self._name(i)) and shown[i] for i in range(len(items))]))
        whole = [
            i for i in trained if self._with_pictures and items.has_image[i] and self._with_words and prompts.words(i)
        ]
        every: dict[Kind, tuple[np.ndarray, np.ndarray]] = {  # choices, and which of them are kept apart
            "image_text": (np.array(pictured, np.int64), np.isin(pictured, kept_apart)),
            "attributes": (np.array(worded, np.int64), np.isin(worded, kept_apart)),
            "behaviour": (positions, np.isin(self._user_of(positions), users_apart)),
            "modalities": (np.array(whole, np.int64), np.isin(whole, kept_apart)),
        }
        self._choices = {kind: choices[~apart] for kind, (choices, apart) in every.items()}
        self._held_out = {kind: choices[apart] for kind, (choices, apart) in every.items()}
        contrast = params.objectives.contrast
        self._counts: dict[Kind, int] = {kind: getattr(params.tasks, kind) for kind in KINDS}
        if not contrast:
            self._counts["modalities"] = 0
        objectives: dict[Kind, Objective] = {
            "image_text": params.objectives.image_text,
            "attributes": params.objectives.attributes,
            "behaviour": params.objectives.behaviour,
            "modalities": Objective(answer=0.0, contrast=1.0),
        }
        self._objectives = {
            kind: of_kind.model_copy(update={"contrast": of_kind.contrast * contrast})
            for kind, of_kind in objectives.items()
        }
        asked = [kind for kind in KINDS if self._counts[kind]]
        self.kinds: list[Kind] = [kind for kind in asked if len(self._choices[kind])]
        if not self.kinds:
            raise MolarError(
                f"finetune_mirm.tasks: the catalogue has no example of {', '.join(asked)} "
                f"for finetune_mirm.modality = '{params.modality}': raise another task above 0, or set tuning: none"
            )
        for kind in self.kinds:
            np.random.default_rng([seed, STREAM, KINDS.index(kind)]).shuffle(self._choices[kind])
        self._order = lru_cache(2 * len(KINDS))(self._drawn_order)  # a step looks at one epoch, or at two
        shares = np.array([self._counts[kind] for kind in self.kinds], float)
        turns = np.random.default_rng([seed, TURNS])
        self._turns_S = turns.choice(len(self.kinds), self._steps, p=shares / shares.sum())

    def step(self, step: int) -> Step:
        """The batch of one step, below `params.steps`."""
        turn = int(self._turns_S[step])
        kind, earlier = self.kinds[turn], int((self._turns_S[:step] == turn).sum())
        first = earlier * self._batch_size
        numbers = [self._number(kind, place) for place in range(first, first + self._batch_size)]
        weights = self._objectives[kind]
        return Step(
            kind,
            [self.about(kind, number) for number in numbers],
            [self.example(kind, number) for number in numbers] if weights.answer else [],
            [self.pair(kind, number) for number in numbers] if weights.contrast else [],
            weights,
        )

    def weights(self, kind: Kind) -> Objective:
        """Of a kind's two losses."""
        return self._objectives[kind]

    def _number(self, kind: Kind, place: int) -> int:
        """Which example stands at a place of the endless row of shuffled epochs."""
        epoch, within = divmod(place, self._counts[kind])
        return int(self._order(kind, epoch)[within])

    def _drawn_order(self, kind: Kind, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, ORDER, KINDS.index(kind), epoch]).permutation(self._counts[kind])

    def _choice(self, kind: Kind, number: int) -> int:
        """What example `number` of a kind is about: an item, or a place in a sequence."""
        choices = self._choices[kind]
        return int(choices[number % len(choices)])

    def example(self, kind: Kind, number: int) -> Example:
        """Prompt and answer of one example of a kind (not of modalities, which has no answer)."""
        rng = np.random.default_rng([self._seed, STREAM, KINDS.index(kind), number])
        return self._example(kind, self._choice(kind, number), rng)

    def pair(self, kind: Kind, number: int) -> Pair:
        """Both prompts of one example of a kind."""
        rng = np.random.default_rng([self._seed, CONTRAST, KINDS.index(kind), number])
        return self._pair(kind, self._choice(kind, number), rng)

    def about(self, kind: Kind, number: int) -> int:
        """The item whose picture or words an example is about."""
        return self._about(kind, self._choice(kind, number))

    def held_out(self) -> dict[Kind, tuple[list[Example], list[Pair]]]:
        """At most MOST_HELD_OUT examples and pairs of each kind that no step ever makes, always the same ones."""
        found: dict[Kind, tuple[list[Example], list[Pair]]] = {}
        for kind in self.kinds:
            weights, stream = self._objectives[kind], [self._seed, HELD_OUT, KINDS.index(kind)]
            rng, contrasts = np.random.default_rng(stream), np.random.default_rng([*stream, CONTRAST])
            chosen = rng.permutation(self._held_out[kind])[:MOST_HELD_OUT].tolist()
            found[kind] = (
                [self._example(kind, choice, rng) for choice in chosen] if weights.answer else [],
                [self._pair(kind, choice, contrasts) for choice in chosen] if weights.contrast else [],
            )
        return found

    def _about(self, kind: Kind, choice: int) -> int:
        """The item whose picture or words a choice is about; of a place in a sequence the item there."""
        return int(self._sequences.items[choice]) if kind == "behaviour" else choice

    def _example(self, kind: Kind, choice: int, rng: np.random.Generator) -> Example:
        """A prompt and its answer."""
        if kind == "image_text":
            return self._image_text(choice, rng)
        return self._attributes(choice, rng) if kind == "attributes" else self._behaviour(choice, rng)

    def _pair(self, kind: Kind, choice: int, rng: np.random.Generator) -> Pair:
        """Two prompts that should have one embedding."""
        if kind == "image_text":
            return self._pairs.image_text(choice, self._seen_clauses(choice))
        if kind == "attributes":
            return self._pairs.attributes(choice, self._said_clauses(choice), self._shows_picture(rng))
        if kind == "behaviour":
            return self._pairs.behaviour(self._history(choice, rng), self._about(kind, choice))
        return self._pairs.modalities(choice, rng)

    def _apart(self, trained: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Items and users that fine-tuning does without, so that it can be asked about them afterwards."""
        rng = np.random.default_rng([self._seed, HELD_OUT])
        users = rng.permutation(len(self._sequences))
        return rng.permutation(trained)[: round(share * len(trained))], users[: round(share * len(users))]

    def _user_of(self, positions: np.ndarray) -> np.ndarray:
        """The users whose sequences hold these positions."""
        return np.searchsorted(self._sequences.offsets, positions, side="right") - 1

    def item_ids(self, step: int) -> list[str]:
        """The ids of a step's items, for messages."""
        return [self._items.item_ids[item] for item in self.step(step).items]

    def _image_text(self, item: int, rng: np.random.Generator) -> Example:
        # Without a caption the answer repeats the words, so showing them as well would teach to copy.
        may_show = self._with_words and self._items.captions[item] is not None
        words = may_show and rng.random() < self._tasks.image_text_with_text
        clauses = self._seen_clauses(item) + (self._said_clauses(item) if words else [])
        return Example(self._prompts.item(item, words=words), self._answer(clauses, rng))

    def _attributes(self, item: int, rng: np.random.Generator) -> Example:
        prompt = self._prompts.item(item, picture=self._shows_picture(rng))
        return Example(prompt, self._answer(self._said_clauses(item), rng))

    def _shows_picture(self, rng: np.random.Generator) -> bool:
        # Embeddings are read from picture and words together: without such examples the picture drowns the words.
        return bool(self._with_pictures and rng.random() < self._tasks.attributes_with_image)

    def _behaviour(self, position: int, rng: np.random.Generator) -> Example:
        target = self._about("behaviour", position)
        return Example(self._history(position, rng), self._prompts.answer([self._name(target)]))

    def _history(self, position: int, rng: np.random.Generator) -> Prompt:
        """What a user chose before a place in the sequence."""
        user = int(self._user_of(np.array([position]))[0])
        start = max(int(self._sequences.offsets[user]), position - self._tasks.behaviour_history)
        history = self._sequences.items[start:position].tolist()
        share = self._tasks.behaviour_with_image if self._with_words else 1.0  # something must be shown
        pictures = [bool(self._with_pictures and draw < share) for draw in rng.random(len(history))]
        return self._prompts.history(history, pictures, self._tasks.behaviour_tokens, words=self._with_words)

    def _answer(self, clauses: list[str], rng: np.random.Generator) -> list[int]:
        if self._tasks.answer != "all":
            clauses = [clauses[i] for i in rng.permutation(len(clauses))]
        if self._tasks.answer == "one":
            clauses = clauses[:1]
        return self._prompts.answer(clauses)

    def _seen_clauses(self, item: int) -> list[str]:
        """What the picture shows."""
        return _clauses(self._items.captions[item]) or [name for name in [self._name(item)] if name]

    def _said_clauses(self, item: int) -> list[str]:
        """What the words say."""
        return _clauses(self._items.summaries[item]) + [v for v in self._items.attributes[item].values() if v]

    def _name(self, item: int) -> str:
        return self._items.titles[item] or self._items.texts[item] or ""

    def _positions(self, nameable: np.ndarray) -> np.ndarray:
        """Positions in the flat sequences that are training, not a user's first, and of an item with a name."""
        sequences = self._sequences
        lengths_U = np.diff(sequences.offsets)
        within_T = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], lengths_U)
        in_training_T = within_T < np.repeat(sequences.train_end, lengths_U)
        return np.flatnonzero(in_training_T & (within_T > 0) & nameable[sequences.items])


def _clauses(text: str | None) -> list[str]:
    return [clause.strip() for clause in (text or "").split(";") if clause.strip()]
