"""Section `evaluate`: full ranking, metrics, intervals."""

from pydantic import Field

from pipeline.params.section import Section


class Evaluate(Section):
    cutoffs: list[int] = Field(min_length=1)
    top_k: int = Field(ge=1)  # length of the saved lists
    bootstrap: int = Field(ge=100)  # resamples of the paired interval
    oracle: bool  # also rank by the true probabilities of the demo world (real data has none)
    ceiling: int = Field(ge=0)  # joint states of the filter that ranks beside the oracle by the history alone; 0: none
