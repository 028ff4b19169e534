"""`finetune_mirm`: the multimodal LLM that turns an item into one vector (paper 3.3).

python -m stages.finetune_mirm                               reads catalog; writes data/mirm/
dvc exp run -S finetune_mirm.tuning=none                     the backbone passes through, at no training cost
"""

import typer

from stages.command import command, running
from stages.paths import CATALOG, MIRM


@command
def main() -> None:
    """Fine-tune the multimodal LLM on pictures, attributes and behaviour."""
    import numpy as np

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.mirm.finetune import LOSSES, finetune, recent, write_losses
    from pipeline.mirm.folder import open_backbone, save_mirm
    from pipeline.mirm.tiny import build_tiny
    from pipeline.params import load_params, load_runtime

    params, runtime = load_params(), load_runtime()
    mirm_params = params.finetune_mirm
    device = pick(runtime)
    with running("finetune_mirm") as run, run.scratch() as scratch:
        catalog = artifacts.read(CATALOG, "ingest")
        items, sequences = open_items(catalog), open_sequences(catalog)
        tiny = None
        if mirm_params.backbone == "tiny":
            trained = np.flatnonzero(sequences.training_counts())
            tiny = build_tiny(
                items, trained, mirm_params.instruction, mirm_params.tiny, params.seed, scratch / "backbone"
            )
        mirm, losses = open_backbone(mirm_params, tiny, params.seed), []
        if mirm_params.tuning != "none":
            tuned = finetune(mirm, items, sequences, mirm_params, params.seed, scratch, device, runtime.workers)
            mirm, losses = tuned.mirm, tuned.losses
        with artifacts.write(MIRM) as out:
            save_mirm(mirm, out)
            write_losses(out / LOSSES, losses)
        how = f"{len(losses):,} steps, {recent(losses)}" if losses else "not tuned"
        run.done(f"{mirm_params.backbone}, {how}", MIRM)


if __name__ == "__main__":
    typer.run(main)
