"""Section `finetune_mirm`: the multimodal LLM that turns an item into one vector (paper 3.3)."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.params.section import Section


class TinyBackbone(Section):
    """A small random Qwen2-VL with a tokenizer trained on the catalogue; read when `backbone: tiny`."""

    hidden: int = Field(ge=16)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    mlp: int = Field(ge=16)
    vocabulary: int = Field(ge=300)
    vision_dim: int = Field(ge=16)
    vision_layers: int = Field(ge=1)
    vision_heads: int = Field(ge=1)


class Lora(Section):
    """Low-rank adapters (peft) on the text decoder's linear layers; read when `tuning: lora`."""

    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class Tasks(Section):
    """Examples of the kinds of fine-tuning data (paper 3.3: 10,000 each); 0 drops a kind."""

    image_text: int = Field(ge=0)  # IT: picture -> caption
    attributes: int = Field(ge=0)  # SA: text and attributes -> a sentence of the attributes
    behaviour: int = Field(ge=0)  # UB: history -> next training item
    modalities: int = Field(ge=0)  # an item <-> its picture or its words alone; by contrast only
    image_text_with_text: float = Field(ge=0, le=1)  # share of IT examples that see the text as well
    attributes_with_image: float = Field(ge=0, le=1)  # share of SA examples that see the picture as well
    behaviour_history: int = Field(ge=1)  # most items of history in a UB example
    behaviour_tokens: int = Field(ge=16)  # most tokens of it, pictures included; the newest item always stays
    behaviour_with_image: float = Field(ge=0, le=1)  # share of a UB history's items shown with their picture
    answer: Literal["one", "shuffled", "all"]  # clauses of IT and SA answers: one drawn, all in random order, all


class Objective(Section):
    """Weights of a kind's two losses; 0 leaves one out, not both."""

    answer: float = Field(ge=0)  # next-token loss of the answer after the embedding token (the paper's reading)
    contrast: float = Field(ge=0)  # InfoNCE between the embeddings of two prompts (pairs.py)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.answer and not self.contrast:
            raise ValueError("answer and contrast are both 0: set the kind's share in tasks to 0 instead")
        return self


class Objectives(Section):
    image_text: Objective
    attributes: Objective
    behaviour: Objective
    contrast: float = Field(ge=0)  # times every contrast, that of modalities too; 0: answers alone, the paper's reading
    temperature: float = Field(gt=0)  # of contrast

    @model_validator(mode="after")
    def _something(self) -> Self:
        for kind in ("image_text", "attributes", "behaviour"):
            if not self.contrast and not getattr(self, kind).answer:
                raise ValueError(f"contrast is 0 and so is {kind}.answer: set that kind's share in tasks to 0 instead")
        return self


class FinetuneMirm(Section):
    backbone: str  # `tiny`, a local folder, or a hub id
    revision: str | None  # of a hub id
    tuning: Literal["none", "lora", "full"]
    modality: Literal["text", "image", "text+image"]
    instruction: str  # opens every item's prompt
    max_text_tokens: int = Field(ge=8)  # of an item's title, attributes and text together
    image_pixels: int = Field(ge=28 * 28)  # upper bound on width x height given to the vision tower
    precision: Literal["float32", "bfloat16"]
    train_vision: bool
    tasks: Tasks
    objectives: Objectives
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)  # examples of one kind per step, whatever memory there is
    batch_tokens: int = Field(ge=64)  # padded tokens of one forward pass, about: a step takes several if it must
    gradient_checkpointing: bool  # less memory, about a third more time, the same gradients
    held_out: float = Field(ge=0, lt=1)  # share of items (IT, SA) and users (UB) kept apart, to be asked at the end
    learning_rate: float = Field(gt=0)  # of the decoder
    vision_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    adam_beta2: float = Field(gt=0, lt=1)
    warmup_steps: int = Field(ge=0)
    clip_norm: float = Field(gt=0)
    lora: Lora
    tiny: TinyBackbone
