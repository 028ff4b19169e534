"""`molar`: the stages and the tools beside them as one command. Heavy imports happen inside the commands."""

import typer

from stages import (
    build_index,
    cache,
    card,
    demo,
    doctor,
    download,
    embed_items,
    evaluate,
    experiment,
    finetune_mirm,
    ingest,
    look,
    preset,
    recommend,
    report,
    train_dueg,
    train_teacher,
)

app = typer.Typer(help="Molar: next-item recommendation from what items look like and say.", no_args_is_help=True)
for name, module in {
    "demo": demo,
    "ingest": ingest,
    "train-teacher": train_teacher,
    "finetune-mirm": finetune_mirm,
    "embed-items": embed_items,
    "train-dueg": train_dueg,
    "build-index": build_index,
    "evaluate": evaluate,
    "recommend": recommend,
    "look": look,
    "report": report,
    "card": card,
    "preset": preset,
    "download": download,
    "doctor": doctor,
    "cache": cache,
}.items():
    app.command(name)(module.main)
app.add_typer(experiment.app, name="experiment")

if __name__ == "__main__":
    app()
