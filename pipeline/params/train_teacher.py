"""Section `train_teacher`: the ID-based model, baseline and teacher in one."""

from typing import Literal

from pipeline.params.section import Section
from pipeline.params.training import SASRec, Training


class TrainTeacher(Section):
    model: Literal["sasrec"]
    sasrec: SASRec
    training: Training
