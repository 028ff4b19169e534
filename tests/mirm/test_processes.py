"""Fine-tuning in two processes: the weights of one process up to rounding; killed and resumed, the same bits."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.mirm.losses import read_losses
from pipeline.mirm.passes import Share, levelled, spares
from tests.conftest import ROOT
from tests.mirm.shop import backbone
from tests.mirm.test_embed import mixed_shop, run
from tests.mirm.two_processes import CASES, run_case

# Largest difference of a weight, float32. Adam divides gradients by their size, and so turns the rounding of those near
# zero into a part of a step of at most 1e-3; the others are rounding alone.
TOLERANCE = {name: 2e-4 if name == "adam" else 2e-6 for name in CASES}


def launch(out, how):
    """Every case in two processes, by one launch."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--log-dir", str(out / "log")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, *words, "-m", "tests.mirm.two_processes", str(out), how],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("two"), "ddp")


@pytest.fixture(scope="module", params=["ddp", pytest.param("fsdp", marks=pytest.mark.soak)])
def two(request, tmp_path_factory):
    """Where two processes left what they trained, each with the whole weights or with a half."""
    if request.param == "ddp":
        return request.getfixturevalue("both")
    return launch(tmp_path_factory.mktemp("sharded"), "fsdp")


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_weights_of_one(two, tmp_path, name):
    run_case(name, tmp_path / "scratch", tmp_path / "one")
    weights, losses = [], []
    for where in (tmp_path / "one", two / name):
        weights.append(load_file(where / "weights"))
        losses.append(read_losses(where / "losses.tsv"))
    apart = largest_difference(*weights)
    assert apart < TOLERANCE[name], f"{name}: weights differ by {apart:.1e}"
    assert largest_difference(backbone().model.state_dict(), weights[1]) > 3 * TOLERANCE[name]
    assert [loss.step for loss in losses[1]] == [loss.step for loss in losses[0]]
    assert [loss.value for loss in losses[1]] == pytest.approx([loss.value for loss in losses[0]], rel=1e-4)
    assert (two / name / "held_out").read_text() == (tmp_path / "one" / "held_out").read_text()


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max((one[key] - other[key]).abs().max().item() for key in one)


def test_two_processes_interrupted_and_resumed_end_in_the_same_bits(two):
    for name in ("weights", "losses.tsv"):
        assert (two / "resumed" / name).read_bytes() == (two / "undisturbed" / name).read_bytes()


def test_a_loss_that_diverges_on_one_process_stops_all_with_the_same_line(two):
    first, second = ((two / f"diverged-{rank}").read_text() for rank in range(2))
    assert first == second and first.startswith("finetune_mirm: the loss is nan at step 1 (")


def test_two_processes_embed_the_bits_of_one_and_count_exactly(both, tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path))
    assert np.array_equal(run(mixed_shop()).embeddings_ND, load_file(both / "vectors")["vectors"].numpy())
    for rank in range(2):
        assert (both / f"counts-{rank}").read_text() == repr([(20, 0), (0, 20), (1, 19)])


class Several:
    """Stands for an accelerator whose other processes have these numbers of parts."""

    num_processes, device = 2, torch.device("cpu")

    def __init__(self, others):
        self.others = torch.tensor([others])

    def gather(self, mine_1G):
        return torch.cat([mine_1G, self.others])


def test_passes_are_levelled_by_sort_with_repeats_that_weigh_nothing():
    pictured, plain = ({"pixel_values": 1}, "p"), ({}, "w")
    one = [plain, pictured]
    (answers, views) = levelled([(one, []), ([plain], [pictured])], Several([3, 1, 1, 2]))
    assert answers == [(pictured, True), (pictured, False), (pictured, False), (plain, True)]
    assert views == [(pictured, False), (plain, True), (plain, False)]
    assert spares([plain], pictured, plain) == [pictured] and spares([], None, plain) == [plain]


def test_shares_are_put_together_in_the_order_of_the_step():
    whole_TD = torch.arange(10.0).reshape(5, 2)
    shares = [Share(rank, 2) for rank in range(2)]
    own = [torch.tensor(share.rows(whole_TD.tolist())) for share in shares]

    class Gathering:
        def gather(self, padded_MD):
            return torch.cat([own[0], torch.cat([own[1], torch.zeros(1, 2)])])

    assert [share.gathered(rows, 5, Gathering()).tolist() for share, rows in zip(shares, own, strict=True)] == [
        whole_TD.tolist()
    ] * 2
    assert torch.equal(shares[1].gradient(whole_TD), 2 * own[1])
