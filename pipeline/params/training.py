"""What `train_teacher` and `train_dueg` share: which user model, what it learns from, and when to stop."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section

ModelName = Literal["sasrec", "gru4rec", "fpmc", "duorec", "llm"]


class Training(Section):
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    batch_of: Literal["windows", "targets"]  # of at most protocol.max_history items; or of windows, in whole ones
    overlap: int = Field(ge=0)  # items that a window reads again before those it asks; below protocol.max_history
    max_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)  # epochs without a better validation NDCG@10 before stopping
    warmup_steps: int = Field(ge=0)
    clip_norm: float = Field(gt=0)
    average_epochs: float = Field(ge=0)  # memory of the weights' moving average, which is what is kept; 0: none


class SASRec(Section):
    """Kang & McAuley 2018, with GELU and tied output; DuoRec's body too."""

    dim: int = Field(ge=4)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    norm: Literal["pre", "post"]  # of each sublayer: before it, or after its residual
    count_from: Literal["start", "end"]  # of the window: which end position 0 lies at


class Gru4Rec(Section):
    """Hidasi et al. 2016."""

    dim: int = Field(ge=4)  # of item and user vectors
    hidden: int = Field(ge=4)  # of the recurrent state
    layers: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class Fpmc(Section):
    """Rendle et al. 2010."""

    dim: int = Field(ge=2)  # of either factor; an item's vector holds two


class DuoRec(Section):
    """Qiu et al. 2022: weights of the contrast between two views of a user; the body is `sasrec`."""

    unsupervised: float = Field(ge=0)  # the user and a second dropout pass
    supervised: float = Field(ge=0)  # the user and another user's history with the same next item
    cross: float = Field(ge=0)  # the second pass and that other history
    temperature: float = Field(gt=0)


class Objective(Section):
    """What a target is to score higher than; pipeline/recommender/objective.py has the formulas."""

    kind: Literal["softmax", "sampled", "nce", "bce", "gbce"]
    negatives: int = Field(ge=1)  # of sampled, nce and gbce; bce has one, softmax all
    draw: Literal["uniform", "popularity"]  # of negatives, from trained items
    drawn_per: Literal["batch", "position"]  # who shares negatives; those of bce are each position's own
    log_q: bool  # of sampled: correct for how likely a negative was drawn?
    temperature: float = Field(gt=0, le=1)  # of nce, at the start
    same: float = Field(gt=0, le=1)  # of nce: a negative with a higher cosine to the target is none
    calibration: float = Field(ge=0, le=1)  # of gbce: t


class UserModel(Section):
    """Every user model's sizes, of which those of `model` are read, and how it is trained."""

    model: ModelName
    sasrec: SASRec
    gru4rec: Gru4Rec
    fpmc: Fpmc
    duorec: DuoRec
    objective: Objective
    training: Training
