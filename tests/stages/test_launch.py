"""A stage in several processes: launched once, told of once, ended together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from pipeline.errors import MolarError
from pipeline.params import Runtime
from stages.command import running
from stages.launch import relaunched
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.fixture
def toy(params_file, monkeypatch):
    """Start the toy stage in two processes; its standard error is a pipe."""
    params_file({})
    monkeypatch.delenv("MOLAR_SCRATCH", raising=False)

    def start(what, **environment):
        environment = os.environ | {"TOY": what, "MOLAR_PROCESSES": "2", "PYTHONPATH": str(ROOT)} | environment
        words = [sys.executable, "-m", "tests.stages.toy_stage"]
        return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return start


def ended(process):
    out, told = process.communicate(timeout=120)
    assert out == ""
    return process.returncode, told.splitlines()


def workers():
    """Process ids of both, once they work."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if all(path.exists() and path.read_text() for path in (Path("process-0"), Path("process-1"))):
            return [int(Path(f"process-{rank}").read_text()) for rank in range(2)]
        time.sleep(0.05)
    raise AssertionError("they never started")


def all_gone(pids):
    """Within some seconds; one that nobody has buried yet (Z) computes no more."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        stats = [Path(f"/proc/{pid}/stat") for pid in pids]
        if not [path for path in stats if path.exists() and path.read_text().rsplit(")", 1)[1].split()[0] != "Z"]:
            return True
        time.sleep(0.05)
    return False


def test_the_work_is_done_by_two_and_told_by_the_first(toy):
    assert ended(toy("work")) == (0, ["done by 2"])


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("mistake of all", "error: all three colours are missing"),
        ("mistake of the second", "error: the second colour is missing"),
    ],
)
def test_a_mistake_is_told_once_in_one_line(toy, what, line):
    assert ended(toy(what)) == (1, [line])


def test_the_exit_status_is_the_childs_and_a_kill_is_explained(toy):
    assert ended(toy("bug")) == (7, [])
    status, told = ended(toy("killed"))
    assert status == 1 and len(told) == 1 and "a process was killed by signal 9" in told[0]


def test_ctrl_c_ends_all_and_is_told_once(toy):
    process = toy("long")
    pids = workers()
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, ["interrupted: run the same command again to go on"])
    assert all_gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel, by prctl")
def test_no_child_computes_on_when_the_stage_is_killed(toy):
    process = toy("long")
    pids = workers()
    process.kill()
    assert all_gone(pids)
    process.communicate(timeout=30)


def test_a_second_run_is_refused_until_a_signal_has_ended_the_first(toy):
    first = toy("long")
    pids = workers()
    status, told = ended(toy("long"))
    assert status == 1 and len(told) == 1 and "toy is already running here (process " in told[0]
    first.send_signal(signal.SIGTERM)
    assert ended(first) == (143, [])
    assert all_gone(pids)


def runtime(**changes):
    return Runtime(**({"device": "cpu", "threads": 0, "workers": 0, "processes": 1, "accelerate": None} | changes))


def test_one_process_is_no_launch():
    assert not relaunched("stages.embed_items", runtime())


def test_an_accelerate_file_that_cannot_be_used_is_one_line(tmp_path):
    with pytest.raises(MolarError, match=r"^runtime.accelerate = 'nope.yaml': no such file"):
        relaunched("stages.embed_items", runtime(accelerate="nope.yaml"))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((ROOT / "configs" / "ddp.yaml").read_text() + "num_proceses: 3\n")
    with pytest.raises(MolarError, match="num_proceses") as error:
        relaunched("stages.embed_items", runtime(accelerate=str(wrong)))
    assert "\n" not in str(error.value)


def test_a_stage_of_one_process_refuses_a_launcher(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MolarError, match="train_teacher runs in one process"), running("train_teacher"):
        pass


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_our_files(path):
    config = load_config_from_file(str(path))
    assert config.num_processes > 1 and "Not tested" in path.read_text()
    known = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}
    assert config.distributed_type.value == known[path.stem]
    if config.fsdp_config:
        from accelerate.commands.launch import launch_command_parser

        options = vars(launch_command_parser().parse_args(["x"]))
        assert set(config.fsdp_config) <= set(options)
