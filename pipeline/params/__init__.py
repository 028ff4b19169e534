"""params.yaml as strict, frozen models: one file per section, each named like the stage that reads it."""

from pipeline.params.load import Params, check, load_params, load_runtime
from pipeline.params.runtime import Runtime

__all__ = ["Params", "Runtime", "check", "load_params", "load_runtime"]
