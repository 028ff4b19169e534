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
    from pipeline.mirm.finetune import finetune
    from pipeline.mirm.folder import HELD_OUT, LOSSES, open_backbone, save_mirm
    from pipeline.mirm.losses import recent, write_held_out, write_losses
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
        mirm, losses, held_out = open_backbone(mirm_params, tiny, params.seed), [], []
        if mirm_params.tuning != "none":
            tuned = finetune(mirm, items, sequences, mirm_params, params.seed, scratch, device, runtime.workers)
            mirm, losses, held_out = tuned.mirm, tuned.losses, tuned.held_out
        with artifacts.write(MIRM) as out:
            save_mirm(mirm, out)
            write_losses(out / LOSSES, losses)
            if held_out:
                write_held_out(out / HELD_OUT, held_out)
        how = f"{len(losses):,} steps, {recent(losses)}" if losses else "not tuned"
        asked = ", ".join(f"{row.kind} {row.before:.2f} -> {row.after:.2f}" for row in held_out)
        run.done(f"{mirm_params.backbone}, {how}{f'; held out: {asked}' if asked else ''}", MIRM)


if __name__ == "__main__":
    typer.run(main)
