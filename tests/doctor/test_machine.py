"""A look at a machine says what is there, and one that fails says why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.doctor import machine
from pipeline.doctor.probe import attempt, duration, number, size
from pipeline.errors import MolarError


@pytest.fixture
def meminfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemFree: 1000 kB\nMemAvailable: 12000000 kB\n")
    monkeypatch.setattr(machine, "MEMORY_FILE", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "GROUP_LIMIT", tmp_path / "max")
    monkeypatch.setattr(machine, "GROUP_USED", tmp_path / "current")
    return tmp_path


def test_memory_is_what_is_available_not_what_is_unused(meminfo: Path) -> None:
    assert machine.memory() == (12_000_000 * 1024, 16_000_000 * 1024)


def test_a_containers_limit_bounds_memory(meminfo: Path) -> None:
    (meminfo / "max").write_text("4000000000\n")
    (meminfo / "current").write_text("1000000000\n")
    assert machine.memory() == (3_000_000_000, 4_000_000_000)
    (meminfo / "max").write_text("max\n")
    assert machine.memory() == (12_000_000 * 1024, 16_000_000 * 1024)


def test_unreadable_memory_is_unknown_with_the_reason(meminfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MEMORY_FILE", meminfo / "gone")
    monkeypatch.setattr(machine, "cores", lambda: 3)
    assert machine.processor().startswith("3 cores, memory unknown ([Errno 2] No such file or directory")


def test_gpus_of_a_kind_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    gpus = [SimpleNamespace(name="H100", total_memory=80e9)] * 2 + [SimpleNamespace(name="T4", total_memory=16e9)]
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu129")
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    assert machine.torch_build() == "2.13.0 (CUDA 12.9), 2 x H100 80 GB, 1 x T4 16 GB"


def test_a_broken_driver_is_unknown_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def broken() -> int:
        raise RuntimeError("Found no NVIDIA driver\nand much more")

    monkeypatch.setattr(torch.cuda, "device_count", broken)
    assert attempt(machine.torch_build) == "unknown (Found no NVIDIA driver)"


def test_faiss_says_which_build_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(__version__="1.9"))
    assert machine.faiss_build() == "1.9 (CPU build)"
    gpu = SimpleNamespace(__version__="1.9", StandardGpuResources=object, get_num_gpus=lambda: 2)
    monkeypatch.setitem(sys.modules, "faiss", gpu)
    assert machine.faiss_build() == "1.9 (GPU build), sees 2 GPU"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert attempt(machine.faiss_build).startswith("unknown (import of faiss halted")


def test_an_absent_package_is_absent() -> None:
    assert machine.installed("no-such-package-anywhere") == "absent"


def test_disk_is_looked_up_where_a_folder_will_be_made(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "not" / "made" / "yet") > 0
    assert machine.disk({"data/": tmp_path, "cache": tmp_path}).count(" free at ") == 2


def test_overrides_are_those_of_this_project_and_long_ones_are_cut() -> None:
    environment = {"HOME": "x", "MOLAR_DEVICE": "cpu", "MOLAR_CACHE": "/" + "d" * 100}
    assert machine.overrides(environment) == f"MOLAR_CACHE=...{'d' * 37} MOLAR_DEVICE=cpu"
    assert machine.overrides({"HOME": "x"}) == ""


@pytest.mark.parametrize("error", [MolarError("a"), ImportError("a"), OSError("a"), RuntimeError("a"), ValueError("a")])
def test_a_failed_look_is_a_word(error: Exception) -> None:
    def look() -> str:
        raise error

    assert attempt(look) == "unknown (a)"


def test_sizes_and_times_are_short() -> None:
    assert [size(n) for n in (0, 980, 3_370_000, 2.2e9, 9.96e9, 3e13)] == [
        "0 B", "980 B", "3.4 MB", "2.2 GB", "10 GB", "30 TB",
    ]  # fmt: skip
    assert [number(n) for n in (12, 484_416, 2.2e9)] == ["12", "484 k", "2.2 B"]
    assert [duration(s) for s in (0.01, 9, 240, 9_000, 1e6, 1e15)] == [
        "1 s", "9 s", "4.0 min", "2.5 h", "12 days", "centuries",
    ]  # fmt: skip
