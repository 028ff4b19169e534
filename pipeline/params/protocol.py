"""Section `protocol`: what every system in one table must share."""

from pydantic import Field

from pipeline.params.section import Section


class Protocol(Section):
    max_history: int = Field(ge=2)  # most recent items a user model reads
    mask_seen: bool  # headline metric and model selection: are items of the history out of the ranking?
