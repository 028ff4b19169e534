"""`train_dueg.joint` on the miniature world: what is served, evaluated and looked at are embeddings trained there."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import artifacts
from pipeline.mirm.shards import conditioned, read_embeddings
from pipeline.serving import Recommender

from .project import Project, sandbox, sorted_files
from .test_interrupted import kill_once_there_is_a_checkpoint

JOINT = {"train_dueg": {"joint": {"epochs": 2, "learning_rate": 3e-3}}}


def test_jointly_trained_embeddings_are_the_ones_in_use(project: Project, tmp_path: Path) -> None:
    data, cached = project.root / "data", tmp_path / "cached"
    shutil.copytree(data / "dueg", cached)
    project.set_params(JOINT)
    assert project.dvc("repro").ran == ["train_dueg", "build_index", "evaluate"]

    best = json.loads((data / "dueg/best.json").read_text())
    assert best["cached"] == json.loads((cached / "best.json").read_text())
    before, after = ((folder / "curve.tsv").read_text().splitlines() for folder in (cached, data / "dueg"))
    assert after[: len(before)] == before and len(after) == len(before) + 2, "the cached mode, and then more"
    assert [int(row.split("\t")[0]) for row in after[1:]] == list(range(1, len(after)))

    shared = artifacts.read(data / "embeddings", "embed_items")
    own = artifacts.read(data / "dueg/embeddings", "train_dueg")
    assert np.abs(read_embeddings(own) - read_embeddings(shared)).max() > 1e-3

    recommender = Recommender.load(data)
    catalogue = recommender.catalogue
    for row in pq.read_table(data / "evaluation/top.parquet").to_pylist()[:10]:
        listed = recommender.recommend(catalogue.history(row["user_id"]), 50, user=row["user_id"])
        assert listed["item_id"].to_pylist() == [catalogue.item_ids[item] for item in row["items"]]
    features_NK = conditioned(own)
    units_NK = features_NK / np.linalg.norm(features_NK, axis=1, keepdims=True)
    nearest = int(np.argsort(-(units_NK @ units_NK[7]))[1])
    assert recommender.similar(catalogue.item_ids[7], 1)["item_id"].to_pylist() == [catalogue.item_ids[nearest]]
    stored, cold = catalogue.stored, len(catalogue) - 1
    new = recommender.add_item(
        stored.titles[cold], stored.texts[cold], stored.image_bytes(cold), attributes=stored.attributes[cold]
    )
    twin = recommender.similar(new, 1)
    assert twin["item_id"].to_pylist() == [catalogue.item_ids[cold]]
    assert twin["score"][0].as_py() == pytest.approx(1, abs=1e-5)

    assert "data/dueg/embeddings: 57 items" in project.run(sys.executable, "-m", "stages.look")
    project.run(sys.executable, "-m", "stages.report", str(tmp_path / "report.html"))
    for stage in ("train_dueg", "build_index", "evaluate"):  # with what dvc.yaml says that they read, and nothing else
        alone = sandbox(project, tmp_path / stage, stage, JOINT)
        alone.run(sys.executable, "-m", f"stages.{stage}")
        assert alone.digests(stage) == project.digests(stage)
    project.restore()
    assert not any(path.name == "conditioning.safetensors" for path in sorted_files(data / "dueg"))


def test_joint_params_are_all_one_where_it_is_off(project: Project, tmp_path: Path) -> None:
    off = {"epochs": 0, "tuning": "full", "start": "scratch", "learning_rate": 1.0, "batch_tokens": 64}
    alone = sandbox(project, tmp_path / "alone", "train_dueg", {"train_dueg": {"joint": off}})
    alone.run(sys.executable, "-m", "stages.train_dueg")
    assert alone.digests("train_dueg") == project.digests("train_dueg")


def test_a_joint_run_killed_in_its_joint_epochs_is_taken_up(project: Project, tmp_path: Path) -> None:
    long = {"train_dueg": {"joint": {"epochs": 12, "start": "scratch", "tuning": "full"}}}
    undisturbed, killed = (sandbox(project, tmp_path / name, "train_dueg", long) for name in ("undisturbed", "killed"))
    undisturbed.run(sys.executable, "-m", "stages.train_dueg")
    kill_once_there_is_a_checkpoint(killed, [sys.executable, "-m", "stages.train_dueg"], "train_dueg")
    assert not (killed.root / "data/dueg").exists()
    killed.run(sys.executable, "-m", "stages.train_dueg")
    assert killed.digests("train_dueg") == undisturbed.digests("train_dueg")
