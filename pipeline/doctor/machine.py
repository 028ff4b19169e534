"""What this machine has, a line each: Python and libraries, cores and memory, GPUs, disks, overrides.

Every function returns one line and may raise one of `probe.FAILURES`; whoever calls goes through `probe.attempt`.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.doctor.probe import attempt, size

MEMORY_FILE = Path("/proc/meminfo")
GROUP_LIMIT, GROUP_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
SHOWN_OVERRIDE = 40  # characters


def python() -> str:
    """Versions of the interpreter and of the libraries that models and index come from."""
    return f"{platform.python_version()}, transformers {installed('transformers')}, faiss {attempt(faiss_build)}"


def installed(package: str) -> str:
    """The version of a package as its metadata has it, "absent" without one; nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def torch_build() -> str:
    """Version, what it was built for, and the GPUs it sees with their memory."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "ROCm" if torch.version.hip else "CPU build"
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    kinds = Counter(f"{gpu.name} {size(gpu.total_memory)}" for gpu in gpus)
    seen = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no GPU"
    return f"{torch.__version__.partition('+')[0]} ({build}), {seen}"


def faiss_build() -> str:
    """Version, CPU or GPU build, and how many GPUs it sees."""
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        return f"{faiss.__version__} (CPU build)"
    return f"{faiss.__version__} (GPU build), sees {faiss.get_num_gpus()} GPU"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """(free, total) bytes of main memory, a container's limit counted."""
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in MEMORY_FILE.read_text("ascii").splitlines()}
    free, total = kilobytes["MemAvailable:"] * 1024, kilobytes["MemTotal:"] * 1024
    limit = GROUP_LIMIT.read_text("ascii").strip() if GROUP_LIMIT.is_file() else "max"
    if limit.isdigit() and int(limit) < total:
        total = int(limit)
        free = min(free, total - int(GROUP_USED.read_text("ascii")))
    return free, total


def processor() -> str:
    """Cores, and memory free of all."""

    def of_memory() -> str:
        free, total = memory()
        return f"{size(free)} free of {size(total)}"

    return f"{cores()} cores, memory {attempt(of_memory)}"


def free_disk(path: Path) -> int:
    """Bytes free where `path` is, or would be made."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def disk(places: Mapping[str, Path]) -> str:
    """Free space at each of the named places."""
    return ", ".join(f"{attempt(lambda p=path: size(free_disk(p)))} free at {name}" for name, path in places.items())  # type: ignore[misc]


def overrides(environment: Mapping[str, str]) -> str:
    """The MOLAR_* variables in force, long values cut; empty where there are none."""
    found = {name: value for name, value in sorted(environment.items()) if name.startswith("MOLAR_")}
    cut = {k: v if len(v) <= SHOWN_OVERRIDE else f"...{v[3 - SHOWN_OVERRIDE :]}" for k, v in found.items()}
    return " ".join(f"{name}={value}" for name, value in cut.items())
