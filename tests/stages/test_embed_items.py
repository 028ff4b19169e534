"""The stage `embed_items`: every item once, known ones never again, a corrupted input named."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import artifacts
from pipeline.mirm.embed import Encoder
from pipeline.mirm.shards import conditioned, read_embeddings
from pipeline.progress import console
from stages import embed_items, finetune_mirm
from stages.paths import EMBEDDINGS, MIRM
from tests.encoders.models import bert, vit
from tests.stages.test_finetune_mirm import project, said

__all__ = ["project"]  # a fixture


def test_embeds_once_and_then_reads_the_cache(project):
    project(tuning="none")
    said(finetune_mirm)
    assert "embed_items: 3 items x 32, encoded 3, from cache 0, " in said(embed_items)
    artifact = artifacts.read(EMBEDDINGS, "embed_items")
    first = artifact.facts
    assert read_embeddings(artifact).shape == conditioned(artifact).shape == (3, 32)
    assert np.isfinite(conditioned(artifact)).all()
    words = said(embed_items)
    assert "encoded 0, from cache 3, " in words and words.endswith("-> data/embeddings")
    assert artifacts.read(EMBEDDINGS, "embed_items").facts == first
    shutil.rmtree(".molar/embeddings")
    said(embed_items)
    assert artifacts.read(EMBEDDINGS, "embed_items").facts == first


def test_content_encoders_take_the_place_of_the_mirm(project, params_file):
    project()  # no MIRM is there, and none is needed
    encoders = {"text_encoder": {"model": str(bert()), "max_tokens": 16}, "image_encoder": {"model": str(vit())}}
    params_file({"embed_items": {"encoder": "text+image", **encoders}})
    words = said(embed_items)
    assert "embed_items: 3 items x 40, encoded 4, from cache 1, " in words  # 3 texts, 2 pictures that are the same
    artifact = artifacts.read(EMBEDDINGS, "embed_items")
    assert not read_embeddings(artifact)[2, 24:].any()  # the cup has no picture
    assert np.isfinite(conditioned(artifact)).all()
    assert "encoded 0, from cache 5, " in said(embed_items)
    params_file({"embed_items": {"encoder": "text", **encoders}})
    assert "3 items x 24, encoded 0, from cache 3, " in said(embed_items)


def test_an_item_that_became_a_nan_is_named_and_nothing_is_written(project, monkeypatch):
    project(tuning="none")
    said(finetune_mirm)
    # six numbers wide: there LAPACK gives up on a NaN, where at 32 it hands it on
    monkeypatch.setattr(Encoder, "encode", lambda self, items: np.full((len(items), 6), np.nan, np.float32))
    with console.capture() as capture, pytest.raises(SystemExit) as error:
        embed_items.main()
    assert error.value.code == 1
    assert capture.get() == (
        "error: the embedding of item 0 holds a NaN, an infinity or a number beyond float32: the encoder has diverged, "
        "or set embed_items.dtype to float32\n"
    )
    assert not EMBEDDINGS.exists()


def test_a_corrupted_mirm_names_file_and_stage(project):
    project(tuning="none")
    said(finetune_mirm)
    path = MIRM / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with console.capture() as capture, pytest.raises(SystemExit) as error:
        embed_items.main()
    assert error.value.code == 1
    assert capture.get() == (
        "error: data/mirm/model.safetensors is corrupted (it differs from its manifest): run "
        "`dvc repro --force --single-item finetune_mirm`\n"
    )
    assert not EMBEDDINGS.exists()


def test_without_a_mirm_it_says_what_to_run(project):
    project()
    with console.capture() as capture, pytest.raises(SystemExit):
        embed_items.main()
    assert capture.get() == "error: data/mirm is missing or unfinished: run `dvc repro finetune_mirm`\n"
    assert not Path(EMBEDDINGS).exists()
