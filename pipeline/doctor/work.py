"""What each stage has to do: FLOPs, pictures, bytes that it keeps and bytes that it needs meanwhile.

A pass of p parameters over t tokens is 2 p t FLOPs, training 6 p t (forward, gradient of inputs, gradient of
weights), training adapters alone 4 p t. Word embeddings are looked up, not multiplied, and logits are computed at
answer tokens alone; attention's square in the length is left out, prompts being short. So, with items N, trained
items V, width d:

    finetune_mirm   steps x batch x (F_d x decoder x tokens + F_d x words x answer + F_v x vision x patches)
    embed_items     N x (2 x decoder x tokens + 2 x vision x patches)
    train_*         epochs x (6 x user model x positions + 6 x V x d x targets         softmax over V
                              + 6 x head x V x batches                                 items through the head
                              + 2 x teacher x targets                                  alignment, if any;
                                                     with the sum, train_dueg over content alone comes before
                              + 2 x user model x interactions + 2 x V x d x users)     validation
    ... jointly     so many epochs more (or, from scratch, in place of those), in each of them
                              + batches x M x (F_d x decoder x tokens + F_v x vision x patches)    M items of a batch
                              + what embed_items does, and once more at the end

M is V at most, as many as a batch has inputs and targets; a step in parts goes forth twice (F + 2). Epochs are
`max_epochs`: early stopping ends most runs before. An epoch's batches hold one window of `protocol.max_history` items
per user at least; positions are targets and what further windows read again (`training.overlap`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from pipeline.doctor.counts import CHARACTERS_PER_TOKEN, Counts
from pipeline.doctor.model import Size
from pipeline.params import Params
from pipeline.params.training import Training, UserModel
from pipeline.recommender.fpmc import FPMC
from pipeline.recommender.gru4rec import GRU4Rec
from pipeline.recommender.sasrec import SASRec

ANSWER_TOKENS = 8  # of a fine-tuning answer: a title, a value or a few clauses, and the end token
FLOAT = 4  # bytes
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
ADAMW_COPIES = 3  # a checkpoint's weights and two moments
CHECKPOINTS_AT_ONCE = 3  # of fine-tuning at the peak: two stay, and the next one is written before the oldest goes
BEST_COPIES = 5  # of pipeline.recommender.fit: weights, their average, the best one, two moments
LORA_TARGETS = 7  # linear layers of a decoder layer


@dataclass(frozen=True)
class Layer:
    """What most of a stage's time goes into."""

    rows: int  # tokens of a batch
    width: int
    precision: str


@dataclass(frozen=True)
class Work:
    """One stage's."""

    stage: str
    what: str
    flops: float
    pictures: float  # that go through the backbone's processor
    keeps: float  # bytes of the stage's output
    scratch: float  # bytes of checkpoints and caches beside it
    layer: Layer


@dataclass(frozen=True)
class Model:
    """A user model, as far as cost goes."""

    parameters: int  # that every target goes through
    width: int
    factors: int = 0  # of users, looked up and not multiplied
    reads: int = 1  # vectors of each item


def finetune_mirm(params: Params, counts: Counts, size: Size) -> Work:
    """IT, SA and UB steps; nothing to do for `tuning: none`."""
    mirm = params.finetune_mirm
    keeps = size.total * BYTES[mirm.precision]
    tokens, pictures = _example(params, counts, size)
    layer = Layer(round(mirm.batch_size * tokens), size.hidden, mirm.precision)
    if mirm.tuning == "none":
        return Work("finetune_mirm", "passes the backbone through", 0, 0, keeps, 0, layer)
    decoder, vision = (6, 6 if mirm.train_vision else 2) if mirm.tuning == "full" else (4, 2)
    example = _passes(params, decoder) * (
        decoder * (size.decoder * tokens + size.words * ANSWER_TOKENS) + vision * size.vision * size.patches * pictures
    )
    trained = size.total if mirm.tuning == "full" else adapters(size, mirm.lora.rank)
    return Work(
        "finetune_mirm",
        f"{mirm.steps:,} steps x {mirm.batch_size} x {tokens:.0f} tokens",
        flops=mirm.steps * mirm.batch_size * example,
        pictures=counts.items * counts.pictured if pictures else 0,
        keeps=keeps,
        scratch=trained * FLOAT * ADAMW_COPIES * CHECKPOINTS_AT_ONCE,
        layer=layer,
    )


def adapters(size: Size, rank: int) -> float:
    """About how many parameters LoRA trains: two thin matrices beside each linear layer of the decoder."""
    return LORA_TARGETS * size.layers * rank * (size.hidden + max(size.hidden, size.mlp))


def embed_items(params: Params, counts: Counts, size: Size) -> Work:
    """Every item once; those in the per-item cache cost nothing, which is not looked up here."""
    embed = params.embed_items
    tokens, pictures = _item(params, counts, size)
    flops = counts.items * 2 * (size.decoder * tokens + size.vision * size.patches * pictures)
    return Work(
        "embed_items",
        f"{counts.items:,} items x {tokens:.0f} tokens",
        flops=flops,
        pictures=counts.items * pictures,
        keeps=counts.items * size.hidden * BYTES[embed.dtype] + size.hidden**2 * FLOAT,
        scratch=counts.items * size.hidden * FLOAT,  # the per-item cache
        layer=Layer(embed.batch_tokens, size.hidden, embed.precision),
    )


def train_teacher(params: Params, counts: Counts) -> Work:
    """The ID-based model."""
    model = user_model(params.train_teacher, params.protocol.max_history, counts.users)
    return _training("train_teacher", params, params.train_teacher.training, counts, model, 0, True, 0)


def train_dueg(params: Params, counts: Counts, size: Size) -> Work:
    """The user model over item vectors, the aligned teacher's forward passes included, and what joint training adds."""
    dueg = params.train_dueg
    if dueg.model == "llm":
        model = Model(size.decoder, size.hidden, reads=2 if dueg.second_token == "teacher" else 1)
    else:
        model = user_model(dueg, params.protocol.max_history, counts.users)
    inner = dueg.head.hidden
    layers = size.hidden * model.width if dueg.head.kind == "linear" else inner * (size.hidden + model.width)
    ids, head = dueg.items != "mirm", layers if "mirm" in dueg.items else 0
    aligned = user_model(params.train_teacher, params.protocol.max_history, counts.users).parameters
    teacher, joint = aligned if dueg.alignment.weight > 0 else 0, dueg.joint
    summed = teacher and dueg.alignment.teacher == "sum"
    teacher += model.parameters if summed else 0
    cached = _training("train_dueg", params, dueg.training, counts, model, head, ids, teacher)
    if summed:
        alone = _training("train_dueg", params, dueg.training, counts, replace(model, reads=1), layers, False, 0)
        flops, scratch = cached.flops + alone.flops, cached.scratch + alone.scratch
        cached = replace(cached, what=f"{cached.what}, twice", flops=flops, scratch=scratch)
    if not joint.epochs:
        return cached
    more = dueg.training.model_copy(update={"max_epochs": joint.epochs})
    user = _training("train_dueg", params, more, counts, model, head, ids, teacher)
    anew = embed_items(params, counts, size)
    targets, _, batches = _epoch(params, dueg.training, counts)
    met = min(counts.warm, (targets + counts.users) / batches)  # inputs and targets of a batch, repeats counted
    tokens, pictures = _item(params, counts, size)
    twice = 2 if met * tokens > joint.batch_tokens else 0
    decoder, vision = (6 + twice, 6 + twice) if joint.tuning == "full" else (4 + twice, 2 + twice)
    step = met * (decoder * size.decoder * tokens + vision * size.vision * size.patches * pictures)
    trained = size.total if joint.tuning == "full" else adapters(size, joint.lora.rank)
    before = cached.flops if joint.start == "cached" else 0.0
    return replace(
        cached,
        what=f"{cached.what}, {joint.epochs} jointly" if before else f"{user.what}, jointly",
        flops=before + user.flops + joint.epochs * (batches * step + anew.flops) + anew.flops,
        pictures=anew.pictures,
        keeps=cached.keeps + size.total * BYTES[params.embed_items.precision] + anew.keeps,
        scratch=cached.scratch + trained * FLOAT * BEST_COPIES + anew.scratch,
        layer=Layer(round(min(met * tokens, joint.batch_tokens)), size.hidden, params.embed_items.precision),
    )


def build_index(params: Params, counts: Counts, size: Size) -> Work:
    """No arithmetic to speak of: a vector per item on disk, the sum's as wide as both models'; HNSW's has one number
    more, and links."""
    width = size.hidden if params.train_dueg.model == "llm" else user_model(params.train_dueg, 1, 0).width
    index = params.build_index
    width += user_model(params.train_teacher, 1, 0).width if index.serve == "sum" else 0
    links = (1 + 2 * index.hnsw_neighbours) * FLOAT if index.kind == "hnsw" else 0
    keeps = counts.items * (width * FLOAT + 8 + links)  # 8: FAISS's own item numbers
    return Work("build_index", f"{counts.items:,} x {width}, {index.kind}", 0, 0, keeps, 0, Layer(1, width, "float32"))


def user_model(params: UserModel, max_history: int, users: int) -> Model:
    """Its true parameter count, of any but the LLM. DuoRec's further views are left out."""
    with torch.device("meta"):
        if params.model == "fpmc":
            model: SASRec | GRU4Rec | FPMC = FPMC(params.fpmc.dim, users)
        elif params.model == "gru4rec":
            model = GRU4Rec(**params.gru4rec.model_dump())
        else:
            model = SASRec(**params.sasrec.model_dump(), max_history=max_history)
    factors = model.likes.numel() if isinstance(model, FPMC) else 0
    return Model(sum(p.numel() for p in model.parameters()) - factors, model.dim, factors)


def _training(
    stage: str, params: Params, training: Training, counts: Counts, model: Model, head: int, ids: bool, teacher: int
) -> Work:
    """`head`: parameters of the item table's head; `ids`: is there a table of IDs?"""
    targets, positions, batches = _epoch(params, training, counts)
    validated = min(counts.interactions, counts.users * params.protocol.max_history)
    table = counts.warm * model.width
    passed = model.parameters * model.reads
    epoch = 6 * passed * positions + 6 * table * targets + 6 * head * counts.warm * batches
    epoch += 2 * teacher * positions + 2 * passed * validated + 2 * table * counts.users
    weights = model.parameters + model.factors + head + (table if ids else 0)
    return Work(
        stage,
        f"up to {training.max_epochs} epochs x {targets:,} targets",
        flops=training.max_epochs * epoch,
        pictures=0,
        keeps=weights * FLOAT,
        scratch=weights * FLOAT * BEST_COPIES,
        layer=Layer(targets // max(batches, 1), model.width, "float32"),
    )


def _epoch(params: Params, training: Training, counts: Counts) -> tuple[int, int, int]:
    """Targets, positions and batches."""
    targets = max(counts.training - counts.users, 0)
    windows = max(counts.users, targets / (params.protocol.max_history - training.overlap))
    positions = targets + round((windows - counts.users) * training.overlap)
    of = windows if training.batch_of == "windows" else targets
    return targets, positions, math.ceil(of / training.batch_size)


def _item(params: Params, counts: Counts, size: Size) -> tuple[float, float]:
    """Mean tokens and pictures of an item's prompt, as it is embedded."""
    modality = params.embed_items.modality
    pictures = counts.pictured if "image" in modality else 0.0
    words = _opening(params.finetune_mirm.instruction) + _words(params, counts, modality)
    return words + pictures * size.picture_tokens, pictures


def _example(params: Params, counts: Counts, size: Size) -> tuple[float, float]:
    """Mean tokens (answer included) and pictures of a fine-tuning example, over the three kinds by their shares."""
    mirm, tasks = params.finetune_mirm, params.finetune_mirm.tasks
    words = _words(params, counts, mirm.modality)
    picture = counts.pictured if "image" in mirm.modality else 0.0
    has_words = "text" in mirm.modality
    history = tasks.behaviour_history
    kinds = [  # share, items' words, pictures
        (tasks.image_text if picture else 0.0, tasks.image_text_with_text * words, picture),
        (tasks.attributes if has_words else 0.0, words, tasks.attributes_with_image * picture),
        (tasks.behaviour, history * words, history * picture * (tasks.behaviour_with_image if has_words else 1.0)),
    ]
    share = sum(kind[0] for kind in kinds) or 1.0
    mean_words = sum(kind[0] * kind[1] for kind in kinds) / share
    mean_pictures = sum(kind[0] * kind[2] for kind in kinds) / share
    tokens = _opening(mirm.instruction) + mean_words + mean_pictures * size.picture_tokens + ANSWER_TOKENS
    return tokens, mean_pictures


def _passes(params: Params, flops: int) -> float:
    """Passes forth and back of a mean example, at `flops` a parameter and token: one for its answer, and two for both
    sides of its pair, which go forth once more before (pipeline/mirm/objectives.py)."""
    tasks, objectives = params.finetune_mirm.tasks, params.finetune_mirm.objectives
    of_a_pair = 2 * (flops + 2) / flops if objectives.contrast else 0.0
    kinds = [(tasks.modalities if objectives.contrast else 0, of_a_pair)]
    for count, objective in (
        (tasks.image_text, objectives.image_text),
        (tasks.attributes, objectives.attributes),
        (tasks.behaviour, objectives.behaviour),
    ):
        kinds.append((count, bool(objective.answer) + bool(objective.contrast) * of_a_pair))
    return sum(count * passes for count, passes in kinds) / (sum(count for count, _ in kinds) or 1)


def _opening(instruction: str) -> float:
    """Tokens of the instruction, and the embedding token."""
    return math.ceil(len(instruction) / CHARACTERS_PER_TOKEN) + 1


def _words(params: Params, counts: Counts, modality: str) -> float:
    """Mean tokens of an item's words, cut to `max_text_tokens`."""
    if "text" not in modality or not len(counts.word_tokens):
        return 0.0
    return float(counts.word_tokens.clip(max=params.finetune_mirm.max_text_tokens).mean())
