"""Fine-tuning in two processes: the weights of one process up to rounding; killed and resumed, the same bits."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from pipeline.mirm.losses import read_losses
from pipeline.mirm.passes import Share, levelled, spares
from tests.conftest import ROOT
from tests.mirm.shop import backbone
from tests.mirm.two_processes import CASES, run_case

# Largest difference of a weight, float32. Adam divides gradients by their size, and so turns the rounding of those near
# zero into a part of a step of at most 1e-3; the others are rounding alone.
TOLERANCE = {name: 2e-4 if name == "adam" else 2e-6 for name in CASES}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Every case in two processes, by one launch."""
    out = tmp_path_factory.mktemp("two")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, *launch, "-m", "tests.mirm.two_processes", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return out


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_weights_of_one(both, tmp_path, name):
    run_case(name, tmp_path / "scratch", tmp_path / "one")
    one, two = (load_file(where / "weights") for where in (tmp_path / "one", both / name))
    assert one.keys() == two.keys()
    apart = max((one[key] - two[key]).abs().max().item() for key in one)
    assert apart < TOLERANCE[name], f"{name}: weights differ by {apart:.1e}"
    losses = [read_losses(where / "losses.tsv") for where in (tmp_path / "one", both / name)]
    assert [loss.step for loss in losses[1]] == [loss.step for loss in losses[0]]
    assert [loss.value for loss in losses[1]] == pytest.approx([loss.value for loss in losses[0]], rel=1e-4)
    assert (both / name / "held_out").read_text() == (tmp_path / "one" / "held_out").read_text()


def test_training_moved_the_weights_more_than_the_tolerance(both):
    before = backbone().model.state_dict()
    for name in CASES:
        after = load_file(both / name / "weights")
        assert max((before[key] - after[key]).abs().max().item() for key in after) > 3 * TOLERANCE[name], name


def test_two_processes_interrupted_and_resumed_end_in_the_same_bits(both):
    for name in ("weights", "losses.tsv"):
        assert (both / "resumed" / name).read_bytes() == (both / "undisturbed" / name).read_bytes()


def test_a_loss_that_diverges_on_one_process_stops_all_with_the_same_line(both):
    first, second = ((both / f"diverged-{rank}").read_text() for rank in range(2))
    assert first == second and first.startswith("finetune_mirm: the loss is nan at step 1 (")


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
