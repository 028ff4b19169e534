"""The arithmetic of each stage, reckoned by hand, and the seconds that follow from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.doctor import speed, work
from pipeline.doctor.counts import read_counts
from pipeline.doctor.work import ANSWER_TOKENS, Layer, Work
from tests.catalog.shop import ingest, ingest_params, write_shop
from tests.doctor.world import COUNTS, SIZE, params

OPENING = 3  # "item " is two tokens of four letters, and the embedding token

# One kind of example alone, all of it shown: 9 tokens of words; half of the items have a picture of 4 tokens.
PICTURES_ALONE = {"image_text": 1, "attributes": 0, "behaviour": 0, "modalities": 0, "image_text_with_text": 0.0}
ANSWERS = {kind: {"answer": 1.0, "contrast": 0.0} for kind in ("image_text", "attributes", "behaviour")}


def test_fine_tuning_is_six_flops_per_parameter_and_token() -> None:
    settings = params(finetune_mirm={"steps": 10, "batch_size": 2, "tasks": PICTURES_ALONE, "objectives": ANSWERS})
    tokens = OPENING + 0.5 * 4 + ANSWER_TOKENS
    done = work.finetune_mirm(settings, COUNTS, SIZE)
    assert done.flops == 10 * 2 * 6 * (1000 * tokens + 200 * ANSWER_TOKENS + 300 * 16 * 0.5)
    assert done.keeps == 1500 * 4 and done.scratch == 1500 * 4 * 3 * 3  # three checkpoints at the peak
    assert done.pictures == 50  # each of half of the items once
    assert done.layer == Layer(26, 10, "float32")


def test_lora_and_a_frozen_tower_cost_less() -> None:
    def flops(**changes: object) -> float:
        one = {"steps": 1, "batch_size": 1, "tasks": PICTURES_ALONE, "objectives": ANSWERS}
        settings = params(finetune_mirm=one | changes)
        return work.finetune_mirm(settings, COUNTS, SIZE).flops

    tower, decoder = 300 * 16 * 0.5, 1000 * (OPENING + 2 + ANSWER_TOKENS) + 200 * ANSWER_TOKENS
    assert flops(train_vision=False) == 6 * decoder + 2 * tower
    assert flops(tuning="lora") == 4 * decoder + 2 * tower
    assert flops(tuning="none") == 0
    pairs = flops(objectives=ANSWERS | {"image_text": {"answer": 0.0, "contrast": 1.0}})
    assert pairs == pytest.approx(2 * (6 + 2) / 6 * flops()), "both sides, and once more forth"


def test_a_behaviour_example_holds_its_history() -> None:
    tasks = {
        "image_text": 0,
        "attributes": 0,
        "behaviour": 1,
        "modalities": 0,
        "behaviour_history": 3,
        "behaviour_with_image": 1.0,
    }
    done = work.finetune_mirm(params(finetune_mirm={"tasks": tasks, "batch_size": 1}), COUNTS, SIZE)
    assert done.layer.rows == round(OPENING + 3 * (9 + 0.5 * 4) + ANSWER_TOKENS)


def test_embedding_is_one_forward_pass_of_every_item() -> None:
    done = work.embed_items(params(embed_items={"dtype": "float16"}), COUNTS, SIZE)
    assert done.flops == 100 * 2 * (1000 * (OPENING + 9 + 2) + 300 * 16 * 0.5)
    assert done.keeps == 100 * 10 * 2 + 10 * 10 * 4
    words_alone = work.embed_items(params(embed_items={"modality": "text"}), COUNTS, SIZE)
    assert words_alone.flops == 100 * 2 * 1000 * (OPENING + 9) and words_alone.pictures == 0


def test_long_words_are_cut_as_the_prompt_cuts_them() -> None:
    long = replace(COUNTS, word_tokens=np.array([9.0, 1000.0]))
    cut = work.embed_items(params(finetune_mirm={"max_text_tokens": 11}), long, SIZE)
    assert cut.what == f"100 items x {OPENING + 10 + 2} tokens"


def test_a_user_model_pays_for_targets_softmax_head_teacher_and_validation() -> None:
    training = {"max_epochs": 3, "batch_size": 20}
    dueg = {"training": training, "head": {"hidden": 6}, "alignment": {"weight": 0.0}}
    targets, table, batches = 450 - 50, 80 * 10, 3  # 50 users make three batches of 20
    epoch = 6 * (1000 + table) * targets + 6 * 6 * (10 + 10) * 80 * batches + 2 * 1000 * 600 + 2 * table * 50
    done = work.train_dueg(params(train_dueg=dueg), COUNTS, SIZE)
    assert done.flops == 3 * epoch
    assert done.keeps == (1000 + 6 * 20) * 4
    aligned = work.train_dueg(params(train_dueg=dueg | {"alignment": {"weight": 1.0}}), COUNTS, SIZE)
    teacher = work.user_model(params().train_teacher, params().protocol.max_history, 50).parameters
    assert aligned.flops == 3 * (epoch + 2 * teacher * targets)


def test_what_windows_read_again_is_paid_for_by_the_user_model_alone() -> None:
    def done(overlap: int) -> Work:
        changed = params(protocol={"max_history": 5}, train_teacher={"training": {"max_epochs": 1, "overlap": overlap}})
        return work.train_teacher(changed, COUNTS)

    windows = 400 / (5 - 3)  # of 400 targets by 50 users, whose first window reads nothing again
    model = work.user_model(params().train_teacher, 5, 50).parameters
    assert done(3).flops - done(0).flops == 6 * model * (windows - 50) * 3


def test_joint_epochs_pay_for_every_item_of_every_batch() -> None:
    def done(**joint: object) -> Work:
        training = {"max_epochs": 3, "batch_size": 20}
        return work.train_dueg(params(train_dueg={"training": training, "joint": joint}), COUNTS, SIZE)

    cached, embed = done(), work.embed_items(params(), COUNTS, SIZE)
    tokens, batches, tower = OPENING + 9 + 0.5 * 4, 3, 300 * 16 * 0.5
    met = 80  # 400 targets and 50 first inputs in three batches are 150, of 80 warm items
    lora = batches * met * (4 * 1000 * tokens + 2 * tower)
    more = done(epochs=3, start="scratch")
    assert more.flops == pytest.approx(cached.flops + 3 * (lora + embed.flops) + embed.flops)
    assert done(epochs=3).flops == pytest.approx(cached.flops + more.flops)
    in_parts = done(epochs=3, start="scratch", batch_tokens=64)
    assert in_parts.flops - more.flops == pytest.approx(3 * batches * met * 2 * (1000 * tokens + tower))
    full = done(epochs=3, start="scratch", tuning="full")
    assert full.flops - more.flops == pytest.approx(3 * batches * met * (2 * 1000 * tokens + 4 * tower))
    assert more.keeps == cached.keeps + 1500 * 4 + embed.keeps and more.scratch > cached.scratch


def test_the_teachers_own_table_is_kept() -> None:
    done = work.train_teacher(params(), COUNTS)
    model = work.user_model(params().train_teacher, 60, 50)
    assert done.keeps == (model.parameters + 80 * 64) * 4
    assert done.layer == Layer(400, 64, "float32")


def test_every_user_model_is_reckoned_by_its_own_parameters() -> None:
    gru = work.train_teacher(params(train_teacher={"model": "gru4rec"}), COUNTS)
    assert gru.keeps == (3 * 128 * (64 + 128) + 129 * 64 + 80 * 64) * 4
    fpmc = work.train_teacher(params(train_teacher={"model": "fpmc"}), COUNTS)
    assert fpmc.keeps == (32 * 64 + 51 * 32 + 80 * 64) * 4  # the transitions' map, a factor per user, the items
    assert fpmc.flops < gru.flops < work.train_teacher(params(train_teacher={"model": "duorec"}), COUNTS).flops


def test_a_second_token_is_read_as_well_and_ids_are_kept_beside_a_head() -> None:
    def done(**changes: object) -> Work:
        return work.train_dueg(params(train_dueg={"training": {"max_epochs": 1}, **changes}), COUNTS, SIZE)

    once, twice, both = done(), done(second_token="teacher"), done(items="id+mirm")
    assert twice.flops - once.flops == 6 * 1000 * 400 + 2 * 1000 * 600
    assert both.keeps - once.keeps == 80 * 10 * 4
    assert once.keeps - done(head={"kind": "linear"}).keeps == (128 * 20 - 10 * 10) * 4


def test_aligned_with_the_sum_a_dueg_over_content_alone_is_trained_before() -> None:
    def done(items: str = "mirm", **alignment: object) -> Work:
        asked = {"training": {"max_epochs": 1}, "items": items, "alignment": {"kind": "scores", **alignment}}
        return work.train_dueg(params(train_dueg=asked), COUNTS, SIZE)

    ids, summed, alone = done(), done(teacher="sum"), done(weight=0)
    assert summed.flops == ids.flops + alone.flops + 2 * 1000 * 400  # that model's forward passes
    assert summed.keeps == ids.keeps and summed.scratch == ids.scratch + alone.scratch
    with_ids = done("id+mirm", teacher="sum")
    assert with_ids.flops == summed.flops and with_ids.scratch > summed.scratch


def test_long_histories_make_more_batches_than_users_do() -> None:
    long = replace(COUNTS, training=50 + 60 * 1000, interactions=70_000)
    done = work.train_teacher(params(train_teacher={"training": {"batch_size": 100}}), long)
    assert done.layer.rows == 60 * 1000 // 10


def test_hnsw_keeps_its_links() -> None:
    flat = work.build_index(params(), COUNTS, SIZE)
    hnsw = work.build_index(params(build_index={"kind": "hnsw", "hnsw_neighbours": 4}), COUNTS, SIZE)
    assert flat.keeps == 100 * (10 * 4 + 8) and hnsw.keeps == flat.keeps + 100 * (1 + 2 * 4) * 4
    summed = work.build_index(params(build_index={"serve": "sum"}), COUNTS, SIZE)
    assert summed.keeps == flat.keeps + 100 * params().train_teacher.sasrec.dim * 4


def test_seconds_follow_the_formula() -> None:
    todo = Work("s", "", flops=1e9, pictures=100, keeps=0, scratch=0, layer=Layer(1, 1, "float32"))
    assert speed.seconds(todo, 1e8) == pytest.approx(1e9 / (speed.UTILISATION * 1e8) + 100 * speed.PICTURE_SECONDS)


def test_like_layers_are_measured_once_and_large_ones_no_larger_than_the_bound() -> None:
    cpu = torch.device("cpu")
    bounded = [speed.bounded(Layer(rows, 96, "float32"), cpu) for rows in (769, 1129, 10**6)]
    assert len(set(bounded)) == 1 and bounded[0].rows == 1024
    assert speed.bounded(Layer(1, 8192, "float32"), cpu) == Layer(16, 256, "float32")


def test_a_measured_rate_is_one_that_a_processor_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MEASURED_SECONDS", 0.02)
    threads = torch.get_num_threads()
    assert 1e7 < speed.measure(torch.device("cpu"), Layer(64, 33, "float32")) < 1e14
    assert torch.get_num_threads() == threads


def test_counts_are_those_of_the_catalogue(tmp_path: Path) -> None:
    assert read_counts(tmp_path / "catalog") is None
    ingest(ingest_params(write_shop(tmp_path / "raw")), tmp_path / "catalog")
    counts = read_counts(tmp_path / "catalog")
    assert counts is not None
    assert (counts.items, counts.warm, counts.users, counts.interactions, counts.training) == (3, 3, 2, 6, 2)
    assert counts.pictured == pytest.approx(2 / 3)
    words = ["Apple ; brand Orchard ; A fruit", "Boot", "Cup ; brand Potter ; A vessel"]
    assert counts.word_tokens.tolist() == [len(text) / 4 for text in words]
    assert counts.bytes == sum(
        f.stat().st_size for f in (tmp_path / "catalog").rglob("*.*") if f.name != "manifest.json"
    )
