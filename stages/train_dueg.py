"""`train_dueg`: the user model over item embeddings, aligned with the frozen teacher (paper 3.4).

python -m stages.train_dueg                                  reads catalog, teacher, mirm, embeddings; writes data/dueg/
dvc exp run -S train_dueg.alignment.weight=0                 the same without alignment
dvc exp run -S train_dueg.joint.epochs=3                     then the MIRM together with it: data/dueg holds both
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from stages.command import command, running
from stages.paths import CATALOG, DUEG, EMBEDDINGS, MIRM, TEACHER

if TYPE_CHECKING:
    from pipeline.recommender.dueg import Dueg
    from pipeline.recommender.fit import Progress
    from pipeline.recommender.joint import JointItems


@command
def main() -> None:
    """Train the user model on item embeddings, pulled towards the teacher's user vectors."""
    import time

    from pipeline import artifacts
    from pipeline.artifacts import Artifact
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.live import Live
    from pipeline.params import load_params, load_runtime
    from pipeline.recommender.dueg import assembled, content_alone
    from pipeline.recommender.fit import write_facts
    from pipeline.recommender.grid import save

    params, runtime = load_params(), load_runtime()
    asked, joint, live = params.train_dueg, params.train_dueg.joint, Live("train_dueg")
    with running("train_dueg") as run, run.scratch() as scratch:
        catalog, mirm = artifacts.read(CATALOG, "ingest"), Artifact(MIRM, "finetune_mirm")
        embeddings = artifacts.read(EMBEDDINGS, "embed_items")
        made = partial(
            assembled,
            protocol=params.protocol,
            seed=params.seed,
            sequences=open_sequences(catalog),
            embeddings=embeddings,
            mirm=mirm,
            teacher=Artifact(TEACHER, "train_teacher"),
            device=pick(runtime),
        )
        content = learnt = None
        if alone := content_alone(asked):
            first = made(alone)
            learnt = first.train(asked.training, scratch / "content", description="dueg over content alone")
            content = first.model
        dueg = made(asked, content=content)
        cached: Progress | None = None
        source: JointItems | None = None
        times, cost = [time.monotonic()], ""
        if not joint.epochs or joint.start == "cached":
            state = cached = dueg.train(asked.training, scratch, live=live)
        times.append(time.monotonic())
        if joint.epochs:
            from pipeline.recommender.joint import JointItems  # seconds of imports that cached embeddings do without

            items = open_items(catalog)
            source = JointItems(dueg.model, items, mirm, embeddings, joint, params.embed_items, params.seed)
            most = asked.training.model_copy(update={"max_epochs": joint.epochs + (cached.epoch if cached else 0)})
            apart = scratch / "joint"
            state = dueg.train(most, apart, description="dueg and mirm", live=live, source=source, after=cached)
            times.append(time.monotonic())
            cost = _cost(source, cached, times)
        with artifacts.write(DUEG) as out:
            save(dueg.model, out)
            write_facts(out, state, **_before(dueg, learnt, cached if source else None))
            if source:
                source.write(out, "train_dueg", runtime.workers)
        run.done(
            f"{asked.model} over {asked.items} items, alpha {asked.alignment.weight:g}, {cost}"
            f"best of {state.epoch} epochs {state.best_epoch}, validation NDCG@10 {state.best_ndcg:.4f}",
            DUEG,
        )


def _before(dueg: Dueg, content: Progress | None, cached: Progress | None) -> dict[str, object]:
    """What this training rests on, of what the stage trained and chose before it."""
    before: dict[str, object] = {}
    if content and dueg.summed:
        before["summed"] = dueg.summed.facts() | {"content": content.best()}
    if cached:
        before["cached"] = cached.best()
    return before


def _cost(source: JointItems, cached: Progress | None, times: list[float]) -> str:
    """What this run spent on either mode; of one that went on after a kill, the rest."""
    begun, turned, ended = times
    learnt, validated = source.encoder.encoded, source.encoder.anew
    cost = (
        f"{ended - turned:.0f} s of joint epochs ({learnt:,} items encoded to learn from, {validated:,} to validate), "
    )
    if cached:
        cost += f"{turned - begun:.0f} s of {cached.epoch} cached ones before (NDCG@10 {cached.best_ndcg:.4f}), "
    return cost


if __name__ == "__main__":
    typer.run(main)
