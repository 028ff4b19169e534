"""`train_teacher`: the ID-based model (by default SASRec) that is baseline and alignment teacher in one.

python -m stages.train_teacher        reads data/catalog/sequences.parquet, writes data/teacher/
dvc exp run -S train_teacher.model=gru4rec        another one
"""

import typer

from stages.command import command, running
from stages.paths import CATALOG, TEACHER


@command
def main() -> None:
    """Train the ID-based model on the training part of every user."""
    import torch

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_sequences
    from pipeline.device import pick
    from pipeline.live import Live
    from pipeline.params import load_params, load_runtime
    from pipeline.recommender.duorec import Views
    from pipeline.recommender.fit import fit, write_facts
    from pipeline.recommender.grid import build, save, spec_of
    from pipeline.recommender.objective import Objective

    params = load_params()
    settings = params.train_teacher
    device = pick(load_runtime())
    with running("train_teacher") as run, run.scratch() as scratch:
        sequences = open_sequences(artifacts.read(CATALOG, "ingest"))
        spec = spec_of(settings, sequences, params.protocol.max_history)
        torch.manual_seed(params.seed)
        teacher = build(spec, None, None).to(device)
        state = fit(
            teacher,
            sequences,
            settings.training,
            seed=params.seed,
            mask_seen=params.protocol.mask_seen,
            scratch=scratch,
            objective=Objective(settings.objective, sequences.training_counts()[: sequences.num_warm], params.seed),
            terms=[Views(teacher, sequences, settings.duorec, params.seed)] if settings.model == "duorec" else [],
            description="teacher",
            live=Live("train_teacher"),
        )
        with artifacts.write(TEACHER) as out:
            save(teacher, out)
            write_facts(out, state)
        run.done(
            f"{spec.model}, best of {state.epoch} epochs {state.best_epoch}, validation NDCG@10 {state.best_ndcg:.4f}",
            TEACHER,
        )


if __name__ == "__main__":
    typer.run(main)
