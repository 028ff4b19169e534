"""`finetune_mirm`: the multimodal LLM that turns an item into one vector (paper 3.3).

python -m stages.finetune_mirm                               reads catalog; writes data/mirm/
MOLAR_PROCESSES=2 python -m stages.finetune_mirm             the same in two processes: docs/scale.md
python -m stages.finetune_mirm --preview 2                   what it would be asked: two examples of each task
dvc exp run -S finetune_mirm.tuning=none                     the backbone passes through, at no training cost
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import command, running
from stages.launch import relaunched
from stages.paths import CATALOG, MIRM

if TYPE_CHECKING:  # --help should not wait for them
    from pipeline.catalog.catalogue import Items, Sequences
    from pipeline.mirm.folder import Mirm
    from pipeline.params.finetune_mirm import FinetuneMirm

PREVIEW = Path(".molar/preview")  # pictures of --preview


@command
def main(
    preview: Annotated[
        int | None, typer.Option(min=1, help="print so many examples of each task, write their pictures, train nothing")
    ] = None,
) -> None:
    """Fine-tune the multimodal LLM on pictures, attributes and behaviour."""
    if preview is not None:
        _preview(preview)
        return
    from pipeline.params import load_params, load_runtime

    params, runtime = load_params(), load_runtime()
    mirm_params = params.finetune_mirm
    if mirm_params.tuning != "none" and relaunched("stages.finetune_mirm", runtime):
        return
    from pipeline import artifacts, processes
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.live import Live
    from pipeline.mirm.finetune import finetune
    from pipeline.mirm.folder import HELD_OUT, LOSSES, save_mirm
    from pipeline.mirm.losses import recent, write_held_out, write_losses

    device = pick(runtime)
    with running("finetune_mirm", shared=True) as run, run.scratch() as scratch:
        processes.join(cpu=device.type == "cpu")
        catalog = artifacts.read(CATALOG, "ingest")
        items, sequences = open_items(catalog), open_sequences(catalog)
        mirm, losses, held_out = _opened(mirm_params, params.seed, items, sequences, scratch), [], []
        if mirm_params.tuning != "none":
            live = Live("finetune_mirm")
            tuned = finetune(mirm, items, sequences, mirm_params, params.seed, scratch, device, runtime.workers, live)
            mirm, losses, held_out = tuned.mirm, tuned.losses, tuned.held_out
        if not processes.is_first():
            return
        with artifacts.write(MIRM) as out:
            save_mirm(mirm, out)
            write_losses(out / LOSSES, losses)
            if held_out:
                write_held_out(out / HELD_OUT, held_out)
        how = f"{len(losses):,} steps, {recent(losses)}" if losses else "not tuned"
        asked = ", ".join(f"{row.kind} by {row.loss} {row.before:.2f} -> {row.after:.2f}" for row in held_out)
        run.done(f"{mirm_params.backbone}, {how}{f'; held out: {asked}' if asked else ''}", MIRM)


def _opened(asked: "FinetuneMirm", seed: int, items: "Items", sequences: "Sequences", scratch: Path) -> "Mirm":
    """The backbone that params name; a tiny one is built in `scratch`, by the first process."""
    import numpy as np

    from pipeline import processes
    from pipeline.mirm.folder import open_backbone
    from pipeline.mirm.tiny import build_tiny

    tiny = None
    if asked.backbone == "tiny":
        tiny = scratch / "backbone"
        if processes.is_first():
            trained = np.flatnonzero(sequences.training_counts())
            build_tiny(items, trained, asked.instruction, asked.tiny, seed, tiny)
        processes.meet()
    return open_backbone(asked, tiny, seed)


def _preview(each: int) -> None:
    """Print the first examples of each task as the model will meet them."""
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.mirm.preview import ANSWER, MASKED, MEET, drawn, shots
    from pipeline.mirm.prompt import Prompts
    from pipeline.mirm.tasks import Tasks
    from pipeline.params import load_params

    params = load_params()
    catalog = artifacts.read(CATALOG, "ingest")
    items, sequences = open_items(catalog), open_sequences(catalog)
    with TemporaryDirectory() as scratch:
        mirm = _opened(params.finetune_mirm, params.seed, items, sequences, Path(scratch))
    prompts = Prompts(items, mirm.processor, mirm.settings)
    console, kind = Console(highlight=False), None
    console.print(f"[{MASKED}]read, and masked from the loss[/]  [{ANSWER}]to be answered[/]  ", end="")
    console.print(f"[{MASKED}]one prompt[/][{ANSWER}]{MEET}[/][{MASKED}]another: their embeddings are to meet[/]")
    for shot in shots(Tasks(items, sequences, prompts, params.finetune_mirm, params.seed), each):
        if shot.kind != kind:
            kind = shot.kind
            console.print(f"\n{kind}", style="bold")
        console.print(f"  {items.item_ids[shot.item]}: ", drawn(shot, items, mirm.processor.tokenizer, PREVIEW), sep="")


if __name__ == "__main__":
    typer.run(main)
