"""Section `train_dueg`: the user model over item vectors, aligned with the teacher (paper 3.4)."""

from typing import Literal

from pydantic import Field

from pipeline.params.finetune_mirm import Lora
from pipeline.params.section import Section
from pipeline.params.training import UserModel


class Alignment(Section):
    """alpha x symmetric InfoNCE between the user vector and the frozen teacher's (paper 3.4, eq. for L_align), or
    another way to bring them together."""

    weight: float = Field(ge=0)  # alpha; 0 is the unaligned model
    weight_warmup: float = Field(ge=0, le=1)  # share of all epochs over which alpha grows linearly from 0
    kind: Literal["infonce", "mse", "cosine", "scores"]
    teacher: Literal["ids", "sum"]  # sum, of scores: the ID teacher's scores and those of a DUEG over content alone
    temperature: float = Field(gt=0)  # of infonce and scores
    positions: Literal["last", "all"]
    queue: int = Field(ge=0)  # of infonce: pairs of earlier batches among the negatives
    subspace: int | None = Field(ge=1)  # leading coordinates of the user vector that are aligned; None: all
    scored_items: int = Field(ge=2)  # of scores: items drawn each step


class Head(Section):
    """From content to item vectors, shared by inputs and targets."""

    kind: Literal["linear", "two-layer"]  # two-layer: with a GELU between
    hidden: int = Field(ge=4)
    dropout: float = Field(ge=0, lt=1)


class Decoder(Section):
    """The MIRM backbone's text decoder; read when `model: llm`."""

    initial: Literal["mirm", "random"]
    dropout: float = Field(ge=0, lt=1)  # on the decoder's inputs and its attention


class Joint(Section):
    """The MIRM trained together with the user model (paper 3.4: "both losses optimise MIRM and DUEG"; HLLM)."""

    epochs: int = Field(ge=0)  # most of them, `training.patience` ends them too; 0: cached embeddings alone
    start: Literal["cached", "scratch"]  # after the cached mode, from its best weights; or jointly from the first step
    tuning: Literal["lora", "full"]  # full: the vision tower as well
    lora: Lora  # read when `tuning: lora`
    learning_rate: float = Field(gt=0)  # of the MIRM; the user model keeps that of `training`
    batch_tokens: int = Field(ge=64)  # padded tokens encoded with activations at once; a larger step goes in parts


class TrainDueg(UserModel):
    items: Literal["mirm", "id", "id+mirm"]
    decoder: Decoder
    second_token: Literal["none", "teacher"]  # of model llm: the teacher's item vector after the item's own
    head: Head
    alignment: Alignment
    joint: Joint
