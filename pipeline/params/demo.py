"""Section `demo`: the embedded example world (see pipeline/world/process.py for the process)."""

from pydantic import Field

from pipeline.params.section import Section


class DemoWeights(Section):
    """How strongly each factor pulls the next choice: additive terms of the choice's logits."""

    category: float = Field(ge=0)  # told by the text alone
    colour: float = Field(ge=0)  # shown by the picture alone
    shape: float = Field(ge=0)  # shown by the picture alone
    brand: float = Field(ge=0)  # told by the attributes alone
    community: float = Field(ge=0)  # told by the interactions alone
    popularity: float = Field(ge=0)  # times the centred log popularity
    repeat_last: float = Field(ge=0)  # bonus for sharing category or community with the last item
    seen: float  # added for items that the user has already chosen (negative: a return is less likely)


class Demo(Section):
    seed: int = Field(ge=0)
    users: int = Field(ge=10)
    items: int = Field(ge=40, le=6000)  # cold ones included; two-syllable names end at 6,000
    cold_items: int = Field(ge=0)  # never chosen except in each user's one extra, held-out choice
    min_events: int = Field(ge=4)
    mean_events: float = Field(gt=4)
    max_events: int = Field(ge=5)
    drift: float = Field(ge=0, le=1)  # probability per step that one of the user's factors is redrawn
    weights: DemoWeights
