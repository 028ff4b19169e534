"""Which MIRM and which embeddings a DUEG goes with: those that all share, or its own.

`train_dueg` reads data/mirm and data/embeddings. Where it trains the MIRM as well (train_dueg.joint), data/dueg holds
`mirm/` and `embeddings/`, artifacts in the very formats of those two, and everything that reads embeddings beside a
DUEG asks here. What data/dueg says that it holds decides, not params: it is what the DUEG was trained with.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pipeline import artifacts
from pipeline.artifacts import Artifact

OWN_MIRM: Literal["mirm"] = "mirm"
OWN_EMBEDDINGS: Literal["embeddings"] = "embeddings"

A = TypeVar("A", bound=Artifact | None)


def own_or(dueg: Artifact, name: Literal["mirm", "embeddings"], shared: A) -> A | Artifact:
    """The DUEG's own artifact of that name, `shared` where it was trained on cached embeddings.

    Raises MolarError where it has one of its own that is missing or unfinished.
    """
    has_own = any(file.startswith(f"{name}/") for file in dueg.names)
    return artifacts.read(dueg.directory / name, dueg.stage) if has_own else shared
