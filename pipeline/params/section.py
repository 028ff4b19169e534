"""What every section shares: an unknown key, a wrong type or a value out of range is an error, never a default."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen part of params.yaml. Fields without a default must stand in the file: the file is the record."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
