"""Hand-made sizes, counts and params that the doctor's tests reckon with."""

from __future__ import annotations

from typing import Any

import numpy as np
from ruamel.yaml import YAML

from pipeline.doctor.counts import Counts
from pipeline.doctor.model import Size
from pipeline.params import Params, check
from tests.conftest import ROOT, merged

SIZE = Size(
    total=1_500, decoder=1_000, words=200, vision=300, layers=2, hidden=10, mlp=30, picture_tokens=4, patches=16
)
COUNTS = Counts(
    items=100, warm=80, pictured=0.5, users=50, interactions=600, training=450, word_tokens=np.full(7, 9.0), bytes=5_000
)


def params(**changes: Any) -> Params:
    """The project's params with some leaves changed."""
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    return check(merged(values, changes), "test")
