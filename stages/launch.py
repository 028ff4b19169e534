"""A stage in several processes: the command launches itself once, through accelerate or torchrun, and waits.

    if relaunched("stages.embed_items", load_runtime()):
        return

`runtime.processes` says how many, `runtime.accelerate` names a file of accelerate's (FSDP, DeepSpeed, several machines;
configs/ has examples). A process that a launcher has started, this one or one typed by hand, does the work itself.

Promise: the children end when this process does, however it ends; a signal or a failure of one ends all of them; what
went wrong is told once, by the child that knows; the exit status is the child's.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline import processes
from pipeline.errors import MolarError
from pipeline.progress import console, say

if TYPE_CHECKING:  # --help should not wait for it
    from pipeline.params import Runtime

PARENT = "MOLAR_LAUNCHED_BY"  # process id
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def relaunched(module: str, runtime: Runtime) -> bool:
    """Run `python -m module` in the processes that `runtime` asks for. False: this one is to do the work itself.

    Exits with the status of the first child that failed. Raises MolarError: no such accelerate file, or one that
    accelerate refuses; a child that a signal killed.
    """
    if processes.launched():
        _settle()
        return False
    alone = runtime.processes == 1 and runtime.accelerate is None
    if alone or os.environ.get(PARENT) == str(os.getppid()):  # or the only process of an accelerate file
        return False
    if runtime.accelerate is not None and not Path(runtime.accelerate).is_file():
        raise MolarError(f"runtime.accelerate = '{runtime.accelerate}': no such file (configs/ has examples)")
    os.environ[PARENT] = str(os.getpid())
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns of what passes.py asks it for
    if runtime.processes > 1:  # torch's own choice, all cores for each, would have them fight
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // runtime.processes)))
    with TemporaryDirectory(prefix="molar-") as notes, _ending(module, Path(notes)):
        if runtime.accelerate is None:
            _torchrun(module, runtime.processes, notes)
        else:
            _accelerate(module, runtime, notes)
    return True


def _torchrun(module: str, count: int, notes: str) -> None:
    from torch.distributed.run import get_args_parser, run

    words = ["--standalone", "--nproc-per-node", str(count), "--log-dir", notes, "--module", module]
    run(get_args_parser().parse_args(words))


def _accelerate(module: str, runtime: Runtime, notes: str) -> None:
    from accelerate.commands.launch import launch_command, launch_command_parser

    words = ["--config_file", str(runtime.accelerate), "--log_dir", notes]
    if runtime.processes > 1:
        words += ["--num_processes", str(runtime.processes)]
    try:
        launch_command(launch_command_parser().parse_args([*words, "--module", module]))
    except (ValueError, KeyError, TypeError, ImportError, ConnectionError) as error:
        told = " ".join(str(error).split())
        raise MolarError(f"runtime.accelerate = '{runtime.accelerate}': {told}") from error


@contextmanager
def _ending(module: str, notes: Path) -> Iterator[None]:
    """The children's end becomes ours, without the launcher's own report."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.disable(logging.ERROR)
    try:
        yield
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        if status < 0:
            raise MolarError(
                f"{module}: a process was killed by signal {-status}; 9 is most often a lack of memory: lower "
                "runtime.processes or the stage's batch_tokens, and run the same command again to go on"
            ) from None
        sys.exit(status)
    except SignalException as error:
        if error.sigval == signal.SIGINT and not any(notes.rglob(processes.TOLD)):
            say("interrupted: run the same command again to go on")
        sys.exit(128 + error.sigval)
    finally:
        logging.disable(logging.NOTSET)


def _settle() -> None:
    """As one of several: silent unless it is the first, and gone when its launcher is."""
    console.quiet = not processes.is_first()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
        sys.exit(1)  # it died before we could ask to be told
