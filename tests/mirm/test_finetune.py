"""Fine-tuning: answers alone are learnt, a killed run ends like an undisturbed one, a diverged one says where."""

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForImageTextToText

from pipeline.contrast import same_but_itself, symmetric_info_nce
from pipeline.errors import MolarError
from pipeline.mirm import finetune as tuning
from pipeline.mirm.batch import Example, collate
from pipeline.mirm.engine import COMPLETE, WEIGHTS
from pipeline.mirm.finetune import finetune
from pipeline.mirm.folder import save_mirm
from pipeline.mirm.held_out import held_out_losses
from pipeline.mirm.losses import Loss, read_losses, recent, write_held_out, write_losses
from pipeline.mirm.objectives import Losses, Steps
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import Prompts
from pipeline.mirm.tasks import Tasks
from tests.mirm.shop import Shop, backbone, recipe, walks

CPU = torch.device("cpu")


def tune(scratch, out=None, workers=0, **changes):
    scratch.mkdir(exist_ok=True)
    params = recipe(**changes)
    tuned = finetune(backbone(params), Shop(), walks(), params, 0, scratch, CPU, workers)
    if out is not None:
        out.mkdir()
        save_mirm(tuned.mirm, out)
        write_losses(out / "losses.tsv", tuned.losses)
    return tuned


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def interrupt_after(monkeypatch, step):
    """Like Ctrl-C in the middle of the run; returns a function that takes it back."""
    undisturbed = tuning.Progress.on_step_end

    def on_step_end(self, args, state, control, **rest):
        undisturbed(self, args, state, control, **rest)
        if state.global_step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuning.Progress, "on_step_end", on_step_end)
    return lambda: monkeypatch.setattr(tuning.Progress, "on_step_end", undisturbed)


@pytest.mark.parametrize("contrast", [0.0, 0.5])
@pytest.mark.parametrize("how", ["full", "lora"])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path, monkeypatch, how, contrast):
    both = {kind: {"answer": 1.0, "contrast": contrast} for kind in ("image_text", "attributes", "behaviour")}
    changes = {"tuning": how, "objectives": both}
    tune(tmp_path / "quiet", tmp_path / "expected", **changes)
    resume = interrupt_after(monkeypatch, step=7)
    monkeypatch.setattr(tuning, "CHECKPOINTS", 3)  # of 12 steps: at 4, 8, 12, so that steps 5 to 7 are done twice
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "disturbed", **changes)
    resume()
    drawn, step = [], Tasks.step
    monkeypatch.setattr(Tasks, "step", lambda self, number: drawn.append(number) or step(self, number))
    tune(tmp_path / "disturbed", tmp_path / "resumed", **changes)
    assert drawn == list(range(4, 12))
    assert digests(tmp_path / "resumed") == digests(tmp_path / "expected")


def test_a_half_written_checkpoint_is_not_resumed_from(tmp_path):
    for step, names in ((4, [WEIGHTS, COMPLETE]), (8, [WEIGHTS])):
        (tmp_path / f"checkpoint-{step}").mkdir()
        for name in names:
            (tmp_path / f"checkpoint-{step}" / name).touch()
    assert tuning._last_complete(tmp_path) == str(tmp_path / "checkpoint-4")


def test_killed_while_it_removes_an_old_checkpoint_equals_undisturbed(tmp_path, monkeypatch):
    """Half of the old one is gone by then, and nothing of the newest whole one may be."""
    tune(tmp_path / "quiet", tmp_path / "expected")
    remove = shutil.rmtree

    def half(path, *arguments, **named):
        if Path(path).name == "checkpoint-4":
            (Path(path) / "optimizer.pt").unlink()
            raise KeyboardInterrupt
        remove(path, *arguments, **named)

    monkeypatch.setattr(tuning, "CHECKPOINTS", 3)
    monkeypatch.setattr(shutil, "rmtree", half)
    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "disturbed")
    monkeypatch.setattr(shutil, "rmtree", remove)
    assert tuning._last_complete(tmp_path / "disturbed") == str(tmp_path / "disturbed" / "checkpoint-8")
    tune(tmp_path / "disturbed", tmp_path / "resumed")
    assert digests(tmp_path / "resumed") == digests(tmp_path / "expected")


def test_weights_that_were_moved_to_be_asked_can_still_be_trained(monkeypatch):
    """As they are on a GPU; on a CPU `to` moves nothing."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, *_, **__: module._apply(torch.clone))
    params, shop = recipe(held_out=0.3), Shop()
    mirm = backbone(params)
    tasks = Tasks(shop, walks(), Prompts(shop, mirm.processor, mirm.settings), params, 0)
    assert held_out_losses(mirm, Steps(tasks, Pictures(shop, mirm), mirm, params), params, CPU)
    assert not any(parameter.is_inference() for parameter in mirm.model.parameters())


def test_a_step_that_cannot_be_made_ends_the_run_in_one_line(tmp_path, monkeypatch):
    def broken(self, number):
        raise MolarError("images.pack is damaged: run `dvc repro ingest`")

    monkeypatch.setattr(Tasks, "step", broken)
    with pytest.raises(MolarError, match=r"^finetune_mirm: images.pack is damaged: run `dvc repro ingest`$"):
        tune(tmp_path / "scratch")


def test_a_process_that_makes_steps_ahead_changes_nothing_but_the_time(tmp_path, monkeypatch):
    both = {kind: {"answer": 1.0, "contrast": 0.5} for kind in ("image_text", "attributes", "behaviour")}
    here, ahead = (
        tune(tmp_path / f"scratch-{workers}", tmp_path / f"out-{workers}", workers=workers, objectives=both)
        for workers in (0, 1)
    )
    assert here.losses == ahead.losses and digests(tmp_path / "out-0") == digests(tmp_path / "out-1")

    def broken(self, number):
        raise MolarError("images.pack is damaged: run `dvc repro ingest`")

    monkeypatch.setattr(Tasks, "step", broken)
    with pytest.raises(MolarError, match=r"^finetune_mirm: images.pack is damaged: run `dvc repro ingest`$"):
        tune(tmp_path / "scratch", workers=1)


def test_losses_fall_and_read_back_exactly(tmp_path):
    tuned = tune(tmp_path / "s", steps=40, learning_rate=3e-3, tasks={"attributes": 0, "behaviour": 0})
    losses = [loss.value for loss in tuned.losses]
    assert [loss.step for loss in tuned.losses] == list(range(1, 41))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    write_losses(tmp_path / "losses.tsv", tuned.losses)
    assert read_losses(tmp_path / "losses.tsv") == tuned.losses
    assert recent([Loss(1, "behaviour", 2.0), Loss(2, "attributes", 1.0), Loss(3, "behaviour", 4.0)]) == (
        "attributes 1.00, behaviour 3.00"
    )


def test_loss_is_the_models_own_on_answer_tokens():
    params, shop = recipe(), Shop()
    mirm = backbone(params)
    prompts = Prompts(shop, mirm.processor, mirm.settings)
    tasks = Tasks(shop, walks(), prompts, params, 0)
    for step in range(6):
        batch = collate(tasks.step(step).examples, Pictures(shop, mirm), 0)
        ours = Losses(mirm.model)(batch.inputs, batch.labels_BL)
        logits = mirm.model(**batch.inputs).logits[:, :-1]
        theirs = F.cross_entropy(logits.flatten(0, 1), batch.labels_BL[:, 1:].flatten(), ignore_index=-100)
        torch.testing.assert_close(ours, theirs)


def test_lora_ends_as_a_plain_folder_with_the_tower_untouched(tmp_path):
    tune(tmp_path / "s", tmp_path / "out", tuning="lora", steps=4)
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not list((tmp_path / "out").glob("adapter*"))
    mirm = backbone()
    before, after = mirm.model.state_dict(), model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("visual" in name for name in changed)
    rows = before["model.language_model.embed_tokens.weight"] != after["model.language_model.embed_tokens.weight"]
    assert rows.any(dim=1).nonzero().flatten().tolist() == [mirm.settings.embedding_token_id]


def test_a_frozen_tower_stays_as_it_was(tmp_path):
    tuned = tune(tmp_path / "s", steps=3, train_vision=False)
    before, after = backbone().model.state_dict(), tuned.mirm.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("visual" in name for name in changed)


def test_bfloat16_trains_and_saves_in_bfloat16(tmp_path):
    tuned = tune(tmp_path / "s", steps=2, precision="bfloat16")
    assert tuned.mirm.model.dtype == torch.bfloat16
    assert all(torch.isfinite(torch.tensor(loss.value)) for loss in tuned.losses)


def test_a_diverged_loss_names_step_kind_and_items(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Losses, "forward", lambda self, inputs, labels_BL: torch.tensor(float("nan"), requires_grad=True)
    )
    params, shop = recipe(tasks={"image_text": 0, "behaviour": 0}), Shop()
    mirm = backbone(params)
    items = Tasks(shop, walks(), Prompts(shop, mirm.processor, mirm.settings), params, 0).item_ids(0)
    with pytest.raises(MolarError) as error:
        finetune(mirm, shop, walks(), params, 0, tmp_path, CPU, workers=0)
    assert str(error.value) == (
        f"finetune_mirm: the loss is nan at step 1 (attributes; items {', '.join(items)}): "
        "lower finetune_mirm.learning_rate or raise warmup_steps"
    )


@pytest.mark.parametrize("how", ["full", "lora"])
def test_checkpointed_gradients_train_the_same_model(tmp_path, how):
    plain, saving = (
        tune(tmp_path / str(on), tuning=how, gradient_checkpointing=on, batch_tokens=64).mirm.model.state_dict()
        for on in (False, True)
    )
    assert all(torch.equal(plain[name], saving[name]) for name in plain)


def test_contrast_brings_pairs_together(tmp_path):
    contrast = {kind: {"answer": 0.0, "contrast": 1.0} for kind in ("image_text", "attributes", "behaviour")}
    tasks = {"attributes": 0, "behaviour": 0, "modalities": 40}
    tuned = tune(tmp_path / "s", steps=60, learning_rate=3e-3, batch_size=8, objectives=contrast, tasks=tasks)
    for kind in ("image_text", "modalities"):
        losses = [loss.value for loss in tuned.losses if loss.kind == kind]
        assert sum(losses[-5:]) < 0.7 * sum(losses[:5]), kind


def test_what_is_held_out_is_asked_before_and_after(tmp_path):
    tuned = tune(tmp_path / "s", steps=60, learning_rate=3e-3, held_out=0.25)
    asked = {row.kind: row for row in tuned.held_out}
    assert {row.loss for row in tuned.held_out} == {"answer"}
    assert {kind: row.examples > 2 for kind, row in asked.items()} == dict.fromkeys(asked, True) and len(asked) == 3
    assert all(row.after < 0.9 * row.before for row in tuned.held_out)
    write_held_out(tmp_path / "held_out.tsv", tuned.held_out)
    assert len((tmp_path / "held_out.tsv").read_text().splitlines()) == 4
    assert tune(tmp_path / "t", steps=1).held_out == []


def test_settings_survive(tmp_path):
    tuned = tune(tmp_path / "s", steps=1)
    assert asdict(tuned.mirm.settings) == asdict(backbone().settings)


def test_pairs_kept_apart_are_asked_in_batches_of_a_step_s_size(tmp_path):
    both = {"image_text": {"answer": 1.0, "contrast": 1.0}, "attributes": {"answer": 0.0, "contrast": 1.0}}
    tasks = {"behaviour": 0, "modalities": 40}
    tuned = tune(tmp_path, steps=80, learning_rate=3e-3, held_out=0.3, objectives=both, tasks=tasks)
    asked = {(row.kind, row.loss): row for row in tuned.held_out}
    assert set(asked) == {
        ("image_text", "answer"),
        ("image_text", "contrast"),
        ("attributes", "contrast"),
        ("modalities", "contrast"),
    }
    assert all(row.examples == round(0.3 * 14) for row in tuned.held_out)
    assert asked["modalities", "contrast"].after < 0.8 * asked["modalities", "contrast"].before


def test_contrast_kept_apart_is_that_of_the_plain_loss(tmp_path):
    objectives = {"attributes": {"answer": 0.0, "contrast": 1.0}}
    params = recipe(held_out=0.3, batch_tokens=64, objectives=objectives, tasks={"behaviour": 0, "image_text": 0})
    shop, mirm = Shop(), backbone()
    tasks = Tasks(shop, walks(), Prompts(shop, mirm.processor, mirm.settings), params, 0)
    (asked,) = held_out_losses(mirm, Steps(tasks, Pictures(shop, mirm), mirm, params), params, CPU)
    pairs = tasks.held_out()["attributes"][1]
    encoded = []
    for side in ("one", "other"):
        batch = collate([Example(getattr(pair, side)) for pair in pairs], Pictures(shop, mirm), 0)
        with torch.no_grad():
            encoded.append(Losses(mirm.model)(batch.inputs, None, batch.prompt_lengths_B - 1))
    keys = torch.tensor([pair.key for pair in pairs])
    plain = symmetric_info_nce(*encoded, same_but_itself(keys), params.objectives.temperature)
    assert asked.examples == len(pairs) == params.batch_size and asked.value == pytest.approx(plain.item(), abs=1e-4)


def test_how_the_tokenizer_was_called_last_is_not_saved(tmp_path):
    digests = []
    for name, padding in (("plain", False), ("padded", True)):
        mirm = backbone()
        mirm.processor.tokenizer(["a", "longer words"], padding=padding, truncation=padding, max_length=8)
        (tmp_path / name).mkdir()
        save_mirm(mirm, tmp_path / name)
        digests.append(hashlib.sha256((tmp_path / name / "tokenizer.json").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
