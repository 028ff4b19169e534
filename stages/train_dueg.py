"""`train_dueg`: the user model over frozen item embeddings, aligned with the frozen teacher (paper 3.4).

python -m stages.train_dueg                                  reads catalog, teacher, mirm, embeddings; writes data/dueg/
dvc exp run -S train_dueg.alignment.weight=0                 the same without alignment
"""

import typer

from stages.command import command, running
from stages.paths import CATALOG, DUEG, EMBEDDINGS, MIRM, TEACHER


@command
def main() -> None:
    """Train the user model on item embeddings, pulled towards the teacher's user vectors."""
    import torch

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_sequences
    from pipeline.device import pick
    from pipeline.live import Live
    from pipeline.params import load_params, load_runtime
    from pipeline.recommender.alignment import Alignment
    from pipeline.recommender.fit import Aligned, fit, write_facts
    from pipeline.recommender.grid import Spec, build, load_recommender, save
    from pipeline.recommender.llm import decoder_of

    params = load_params()
    dueg = params.train_dueg
    device = pick(load_runtime())
    with running("train_dueg") as run, run.scratch() as scratch:
        sequences = open_sequences(artifacts.read(CATALOG, "ingest"))
        embeddings = artifacts.read(EMBEDDINGS, "embed_items")
        spec = Spec(
            items=dueg.items,
            model=dueg.model,
            num_items=sequences.num_items,
            num_trained=sequences.num_warm,
            max_history=params.protocol.max_history,
            sasrec=dueg.sasrec if dueg.model == "sasrec" else None,
            head=dueg.head if dueg.items != "id" else None,
        )
        torch.manual_seed(params.seed)
        decoder = None
        if dueg.model == "llm":
            mirm = artifacts.read(MIRM, "finetune_mirm").verified()
            decoder = decoder_of(mirm, pretrained=dueg.decoder.initial == "mirm", dropout=dueg.decoder.dropout)
        model = build(spec, embeddings, decoder).to(device)
        aligned = None
        if dueg.alignment.weight > 0:
            teacher = load_recommender(artifacts.read(TEACHER, "train_teacher"), None, str(device))
            loss = Alignment(model.model.dim, teacher.model.dim, dueg.alignment.temperature).to(device)
            aligned = Aligned(teacher, loss, dueg.alignment.weight, dueg.alignment.positions)
        state = fit(
            model,
            sequences,
            dueg.training,
            seed=params.seed,
            mask_seen=params.protocol.mask_seen,
            scratch=scratch,
            aligned=aligned,
            description="dueg",
            live=Live("train_dueg"),
        )
        with artifacts.write(DUEG) as out:
            save(model, out)
            write_facts(out, state)
        run.done(
            f"{spec.model} over {spec.items} items, alpha {dueg.alignment.weight:g}, best of {state.epoch} epochs "
            f"{state.best_epoch}, validation NDCG@10 {state.best_ndcg:.4f}",
            DUEG,
        )


if __name__ == "__main__":
    typer.run(main)
