"""How fast is exact ranking? Beside the bare product, torch.topk and FAISS's flat index, on the same random vectors.

    python -m benchmarks.rank                                        20,000 users x 300,000 items x 128
    python -m benchmarks.rank --users 1000 --items 300000            a minute of one thread

Every contestant gives the best `--top` items of every user, those of the user's history left out; the bare product
gives nothing, it only fills one buffer. The slowest takes fewer users (`--fewer`) and is scaled to all of them. "Ranks"
counts what is above one target a user. Lists are compared with ours. Seconds are the processor's on a CPU, so that
other jobs disturb them little, and the clock's on a GPU (`--device cuda`); memory is the peak above vectors and
histories, of a process of its own for each contestant.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
import torch
import typer

from pipeline.retrieval import rank, sieve

NAMES = {
    "product": "product alone, one buffer",
    "ours": "ours",
    "ranks": "ours: ranks of targets",
    "topk": "product and torch.topk",
    "faiss": "FAISS flat",
}
PEERS = ("topk", "faiss")  # whose lists are compared with ours
FEWER = ("topk",)  # scaled; FAISS takes another way, many times as slow, for few queries
Lists = np.ndarray  # (Q, K) items


def vectors(users: int, items: int, dim: int, history: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Random users, items and histories; the same for every contestant."""
    rng = np.random.default_rng(0)
    items_ND = rng.standard_normal((items, dim), dtype=np.float32)
    users_QD = rng.standard_normal((users, dim), dtype=np.float32)
    return users_QD, items_ND, list(rng.integers(0, items, (users, history)))


def by_product(users_QD: np.ndarray, items_ND: np.ndarray, device: str, seen: list, top: int | None) -> Lists:
    """The product in blocks into one buffer; with `top` masking and torch.topk as well."""
    items_DN, block = sieve.tensor(items_ND, device).T, max(1, sieve.BUDGET // len(items_ND))
    buffer, found = torch.empty(block * len(items_ND), device=device), []
    for start in range(0, len(users_QD), block):
        users_BD = sieve.tensor(users_QD[start : start + block], device)
        scores_BN = buffer[: len(users_BD) * len(items_ND)].view(len(users_BD), -1)
        torch.mm(users_BD, items_DN, out=scores_BN)
        if top is not None:
            pairs = [torch.from_numpy(of).to(device) for of in sieve.flat_rows(seen[start : start + block])]
            scores_BN[pairs[0], pairs[1]] = -torch.inf
            found.append(scores_BN.topk(top, dim=1).indices.cpu())
    if device != "cpu":
        torch.cuda.synchronize()
    return torch.cat(found).numpy() if found else np.empty((0, 0), np.int64)


def by_faiss(users_QD: np.ndarray, items_ND: np.ndarray, seen: list, top: int) -> Lists:
    """The flat index asked for as many more as the longest history has; what was seen is dropped after that."""
    index = faiss.IndexFlatIP(items_ND.shape[1])
    index.add(items_ND)
    _, found_QM = index.search(users_QD, top + max(map(len, seen)))
    return np.stack([f[~np.isin(f, s)][:top] for f, s in zip(found_QM, seen, strict=True)])


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contest(name: str, users: int, items: int, dim: int, top: int, history: int, device: str) -> dict[str, float]:
    """Seconds and MiB of one contestant, in this process."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    users_QD, items_ND, seen = vectors(users, items, dim, history)
    targets_Q = np.random.default_rng(1).integers(0, items, users)
    rank.top_k(users_QD[:8], items_ND[:4096], top, device=device)  # wakes the libraries
    before, start = peak_mib(), clock()
    if name == "ours":
        found = rank.top_k(users_QD, items_ND, top, seen, device=device)[0]
    elif name == "ranks":
        rank.target_ranks(users_QD, items_ND, targets_Q, seen, device=device)
    elif name == "faiss":
        found = by_faiss(users_QD, items_ND, seen, top)
    else:
        found = by_product(users_QD, items_ND, device, seen, top if name == "topk" else None)
    seconds = clock() - start
    result = {"seconds": seconds, "mib": peak_mib() - before}
    if name in PEERS:
        ours = rank.top_k(users_QD[:64], items_ND, top, seen[:64], device=device)[0]
        result["agree"] = float(np.mean([np.isin(a, b).mean() for a, b in zip(found[:64], ours, strict=True)]))
    return result


def main(
    users: int = 20_000,
    items: int = 300_000,
    dim: int = 128,
    top: int = 50,
    history: int = 50,
    fewer: Annotated[int, typer.Option(help="Users of torch.topk, scaled to all.")] = 4096,
    threads: int = 1,
    device: str = "cpu",
    only: Annotated[str | None, typer.Option(help="One contestant in this process, as JSON.")] = None,
) -> None:
    """Run every contestant in a process of its own and print the table."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    if only:
        print(json.dumps(contest(only, users, items, dim, top, history, device)))
        return
    print(f"{users:,} users x {items:,} items x {dim}, top {top}, {history} seen, {threads} thread(s), {device}\n")
    print("| | seconds | x product | peak MiB | same items as ours |\n|---|---|---|---|---|")
    product = 0.0
    for name, title in NAMES.items():
        count = min(users, fewer) if name in FEWER else users
        options = {"users": count, "items": items, "dim": dim, "top": top, "history": history, "threads": threads}
        words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
        command = [sys.executable, "-m", "benchmarks.rank", *words, "--device", device, "--only", name]
        run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        found = json.loads(run.stdout)
        seconds = found["seconds"] * users / count
        product = product or seconds
        scaled = f" ({count:,} users, scaled)" if count < users else ""
        agree = f"{found['agree']:.1%}" if "agree" in found else "-"
        print(f"| {title}{scaled} | {seconds:.2f} | {seconds / product:.2f} | {found['mib']:,.0f} | {agree} |")


if __name__ == "__main__":
    typer.run(main)
