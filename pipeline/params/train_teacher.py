"""Section `train_teacher`: the ID-based model, baseline and teacher in one."""

from typing import Literal

from pipeline.params.training import UserModel


class TrainTeacher(UserModel):
    model: Literal["sasrec", "gru4rec", "fpmc", "duorec"]  # no llm: a teacher is trained before there is a MIRM
