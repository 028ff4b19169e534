"""`train_dueg`: the user model over item embeddings, aligned with the frozen teacher (paper 3.4).

python -m stages.train_dueg                                  reads catalog, teacher, mirm, embeddings; writes data/dueg/
dvc exp run -S train_dueg.alignment.weight=0                 the same without alignment
dvc exp run -S train_dueg.joint.epochs=3                     then the MIRM together with it: data/dueg holds both
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stages.command import command, running
from stages.paths import CATALOG, DUEG, EMBEDDINGS, MIRM, TEACHER

if TYPE_CHECKING:
    from pipeline.recommender.fit import Progress
    from pipeline.recommender.joint import JointItems


@command
def main() -> None:
    """Train the user model on item embeddings, pulled towards the teacher's user vectors."""
    import time
    from functools import partial

    import torch

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.live import Live
    from pipeline.params import load_params, load_runtime
    from pipeline.recommender.alignment import Aligned
    from pipeline.recommender.duorec import Views
    from pipeline.recommender.fit import Term, fit, write_facts
    from pipeline.recommender.grid import build, load_recommender, save, spec_of, with_second_token
    from pipeline.recommender.llm import decoder_of
    from pipeline.recommender.objective import Objective

    params, runtime = load_params(), load_runtime()
    dueg, joint = params.train_dueg, params.train_dueg.joint
    device = pick(runtime)
    with running("train_dueg") as run, run.scratch() as scratch:
        catalog = artifacts.read(CATALOG, "ingest")
        sequences = open_sequences(catalog)
        embeddings, shared = artifacts.read(EMBEDDINGS, "embed_items"), artifacts.Artifact(MIRM, "finetune_mirm")
        spec = spec_of(dueg, sequences, params.protocol.max_history, items=dueg.items, head=dueg.head)
        torch.manual_seed(params.seed)
        decoder = None
        if dueg.model == "llm":
            pretrained = dueg.decoder.initial == "mirm"
            decoder = decoder_of(shared.verified(), pretrained=pretrained, dropout=dueg.decoder.dropout)
        model = build(spec, embeddings, decoder).to(device)
        terms: list[Term] = []
        if dueg.alignment.weight > 0 or dueg.second_token == "teacher":
            teacher = load_recommender(artifacts.read(TEACHER, "train_teacher"), None, str(device))
            if dueg.second_token == "teacher":
                model = with_second_token(model, teacher)
            if dueg.alignment.weight > 0:
                terms.append(Aligned(teacher, model, dueg.alignment, params.seed))
        if dueg.model == "duorec":
            terms.append(Views(model, sequences, dueg.duorec, params.seed))
        train = partial(
            fit,
            model,
            sequences,
            seed=params.seed,
            mask_seen=params.protocol.mask_seen,
            objective=Objective(dueg.objective, sequences.training_counts()[: sequences.num_warm], params.seed),
            terms=terms,
            live=Live("train_dueg"),
        )
        cached: Progress | None = None
        source: JointItems | None = None
        times, cost = [time.monotonic()], ""
        if not joint.epochs or joint.start == "cached":
            state = cached = train(dueg.training, scratch=scratch, description="dueg")
        times.append(time.monotonic())
        if joint.epochs:
            from pipeline.recommender.joint import JointItems  # seconds of imports that cached embeddings do without

            items = open_items(catalog)
            source = JointItems(model, items, shared, embeddings, joint, params.embed_items, params.seed)
            apart = scratch / "joint"
            apart.mkdir(exist_ok=True)
            most = dueg.training.model_copy(update={"max_epochs": joint.epochs + (cached.epoch if cached else 0)})
            state = train(most, scratch=apart, description="dueg and mirm", source=source, after=cached)
            times.append(time.monotonic())
            cost = _cost(source, cached, times)
        with artifacts.write(DUEG) as out:
            save(model, out)
            write_facts(out, state, cached if source else None)
            if source:
                source.write(out, "train_dueg", runtime.workers)
        run.done(
            f"{spec.model} over {spec.items} items, alpha {dueg.alignment.weight:g}, {cost}"
            f"best of {state.epoch} epochs {state.best_epoch}, validation NDCG@10 {state.best_ndcg:.4f}",
            DUEG,
        )


def _cost(source: JointItems, cached: Progress | None, times: list[float]) -> str:
    """What this run spent on either mode; of one that went on after a kill, the rest."""
    begun, turned, ended = times
    learnt, asked = source.encoder.encoded, source.encoder.anew
    cost = f"{ended - turned:.0f} s of joint epochs ({learnt:,} items encoded to learn from, {asked:,} to validate), "
    if cached:
        cost += f"{turned - begun:.0f} s of {cached.epoch} cached ones before (NDCG@10 {cached.best_ndcg:.4f}), "
    return cost


if __name__ == "__main__":
    typer.run(main)
