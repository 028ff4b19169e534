"""The DUEG as params ask for it: user model, item table, what it is aligned with, and its training.

Promise: weights follow from the seed alone. `train` goes on from the checkpoint in its `scratch`, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Sequences
from pipeline.live import Live
from pipeline.params.protocol import Protocol
from pipeline.params.train_dueg import TrainDueg
from pipeline.params.training import Training
from pipeline.recommender.alignment import Aligned
from pipeline.recommender.duorec import Views
from pipeline.recommender.fit import ItemSource, Progress, Term, fit
from pipeline.recommender.grid import Recommender, build, load_recommender, spec_of, with_second_token
from pipeline.recommender.llm import decoder_of
from pipeline.recommender.objective import Objective
from pipeline.recommender.teacher import Frozen, SumTeacher, fitted


@dataclass(frozen=True)
class Dueg:
    """A recommender and everything that it is trained with."""

    model: Recommender
    terms: list[Term]
    objective: Objective
    sequences: Sequences
    protocol: Protocol
    seed: int
    summed: SumTeacher | None = None  # what it is aligned with, where that is no single model

    def train(
        self,
        training: Training,
        scratch: Path,
        *,
        description: str = "dueg",
        live: Live | None = None,
        source: ItemSource | None = None,
        after: Progress | None = None,
    ) -> Progress:
        """`fit` on the sequences, in place; `scratch` is made if it is not there."""
        scratch.mkdir(exist_ok=True)
        return fit(
            self.model,
            self.sequences,
            training,
            seed=self.seed,
            mask_seen=self.protocol.mask_seen,
            scratch=scratch,
            objective=self.objective,
            terms=self.terms,
            description=description,
            live=live,
            source=source,
            after=after,
        )


def assembled(
    asked: TrainDueg,
    protocol: Protocol,
    seed: int,
    sequences: Sequences,
    *,
    embeddings: Artifact,
    mirm: Artifact,
    teacher: Artifact,
    device: torch.device,
    content: Recommender | None = None,
) -> Dueg:
    """Fresh weights, or the MIRM's decoder's, on the device. `mirm` and `teacher` are read only where params need them;
    `content` is what `content_alone` trained, where that is not None.

    Raises MolarError for a missing or corrupted file, or a subspace wider than the user vector.
    """
    spec = spec_of(asked, sequences, protocol.max_history, items=asked.items, head=asked.head)
    torch.manual_seed(seed)
    decoder = None
    if asked.model == "llm":
        pretrained = asked.decoder.initial == "mirm"
        decoder = decoder_of(mirm.verified(), pretrained=pretrained, dropout=asked.decoder.dropout)
    model = build(spec, embeddings, decoder).to(device)
    terms: list[Term] = []
    summed = None
    if asked.alignment.weight > 0 or asked.second_token == "teacher":
        known = load_recommender(teacher, None, str(device))
        if asked.second_token == "teacher":
            model = with_second_token(model, known)
        if asked.alignment.weight > 0:
            if content is not None:
                summed = fitted(sequences, known, content, protocol.mask_seen, seed)
            terms.append(Aligned(summed or Frozen(known), model, asked.alignment, seed))
    if asked.model == "duorec":
        terms.append(Views(model, sequences, asked.duorec, seed))
    objective = Objective(asked.objective, sequences.training_counts()[: sequences.num_warm], seed)
    return Dueg(model, terms, objective, sequences, protocol, seed, summed)


def content_alone(asked: TrainDueg) -> TrainDueg | None:
    """The DUEG whose scores the alignment's teacher adds to its own, to be trained first; None where it adds none.

    It is as the one to come, but that it knows items by their content alone and has no teacher.
    """
    alignment = asked.alignment
    if not alignment.weight or alignment.teacher == "ids":
        return None
    alone = {"items": "mirm", "second_token": "none", "alignment": alignment.model_copy(update={"weight": 0.0})}
    return asked.model_copy(update=alone)
