"""What `train_teacher` and `train_dueg` share: the optimiser and when to stop."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section


class Training(Section):
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    batch_of: Literal["windows", "targets"]  # of at most protocol.max_history items; or of windows, in whole ones
    max_epochs: int = Field(ge=1)
    patience: int = Field(ge=1)  # epochs without a better validation NDCG@10 before stopping
    warmup_steps: int = Field(ge=0)
    clip_norm: float = Field(gt=0)
    average_epochs: float = Field(ge=0)  # memory of the weights' moving average, which is what is kept; 0: none


class SASRec(Section):
    """Kang & McAuley 2018, with GELU and tied output."""

    dim: int = Field(ge=4)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    norm: Literal["pre", "post"]  # of each sublayer: before it, or after its residual
    count_from: Literal["start", "end"]  # of the window: which end position 0 lies at
