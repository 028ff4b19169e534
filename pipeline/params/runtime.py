"""Section `runtime`: what cannot change a result: machine settings, and whether data is shared. No stage tracks it.

Machine settings may be overridden by an environment variable: MOLAR_DEVICE, MOLAR_THREADS, MOLAR_WORKERS,
MOLAR_PROCESSES, MOLAR_ACCELERATE.
"""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section


class Runtime(Section):
    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(ge=0)  # of torch on a CPU, and processes that pack pictures; 0: as many as there are cores
    workers: int = Field(ge=0)  # processes that prepare batches and pictures beside the model, or each model; 0: none
    processes: int = Field(ge=1)  # that finetune_mirm and embed_items share their work out to, one a GPU
    accelerate: str | None  # a configuration file of accelerate's to launch them by; its num_processes unless above > 1
    share_data: bool = True  # false: a licence forbids it (sharing.py); records of before the key do not have it
