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
    from pipeline.recommender.alignment import Aligned
    from pipeline.recommender.duorec import Views
    from pipeline.recommender.fit import Term, fit, write_facts
    from pipeline.recommender.grid import build, load_recommender, save, spec_of, with_second_token
    from pipeline.recommender.llm import decoder_of
    from pipeline.recommender.objective import Objective

    params = load_params()
    dueg = params.train_dueg
    device = pick(load_runtime())
    with running("train_dueg") as run, run.scratch() as scratch:
        sequences = open_sequences(artifacts.read(CATALOG, "ingest"))
        embeddings = artifacts.read(EMBEDDINGS, "embed_items")
        spec = spec_of(dueg, sequences, params.protocol.max_history, items=dueg.items, head=dueg.head)
        torch.manual_seed(params.seed)
        decoder = None
        if dueg.model == "llm":
            mirm = artifacts.read(MIRM, "finetune_mirm").verified()
            decoder = decoder_of(mirm, pretrained=dueg.decoder.initial == "mirm", dropout=dueg.decoder.dropout)
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
        state = fit(
            model,
            sequences,
            dueg.training,
            seed=params.seed,
            mask_seen=params.protocol.mask_seen,
            scratch=scratch,
            objective=Objective(dueg.objective, sequences.training_counts()[: sequences.num_warm], params.seed),
            terms=terms,
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
