"""The caches as `molar cache` sees them: listed with size and age, removed by age, damaged ones too."""

import os
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.mirm import cache
from stages.cli import app
from stages.command import EMBEDDING, running

DAY = 86400


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MOLAR_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "cache"


def fill(name, items, days_ago=0.0):
    with cache.opened(name, f"about {name}") as opened:
        opened.add([bytes([n]) * 32 for n in range(items)], np.ones((items, 4), np.float32))
        assert opened.size > 0
    path = cache.cache_root() / f"{name}.sqlite"
    moment = time.time() - days_ago * DAY
    os.utime(path, (moment, moment))
    return path


def molar(*arguments):
    return CliRunner().invoke(app, ["cache", *arguments])


def test_no_cache_at_all(root):
    assert cache.listing() == cache.prune(0) == []
    assert molar().exit_code == 0 and not root.exists()


def test_listed_latest_first_with_what_is_in_them():
    fill("old", 3, days_ago=10)
    path = fill("new", 2)
    before = set(path.parent.iterdir())
    new, old = cache.listing()
    assert set(path.parent.iterdir()) == before, "looking leaves nothing behind"
    assert (new.path, new.items, new.about, new.size) == (path, 2, "about new", path.stat().st_size)
    assert (old.items, round(old.days_idle(time.time()))) == (3, 10)
    told = molar().stdout.splitlines()
    assert told[0].split()[:3] == ["new", "2", "items"] and told[1].endswith("used 10 days ago  about old")


def test_a_cache_in_use_is_listed_with_what_it_holds_by_now():
    with cache.opened("new") as opened:
        opened.add([b"a" * 32], np.ones((1, 4), np.float32))
        assert [one.items for one in cache.listing()] == [1]


def test_pruned_by_the_days_since_a_run_opened_them():
    old, new = fill("old", 3, days_ago=10), fill("new", 2, days_ago=3)
    assert molar("--prune-days", "5").exit_code == 0
    assert not old.exists() and new.exists()
    with cache.opened("new") as opened:  # opening is using, even if every item is known
        opened.find([b"x"])
    assert cache.prune(1) == []
    assert [gone.path for gone in cache.prune(0)] == [new] and cache.listing() == []


def test_a_damaged_file_is_listed_and_can_go():
    path = fill("new", 2)
    path.write_bytes(b"no database at all" * 100)
    (found,) = cache.listing()
    assert (found.items, found.about) == (None, "damaged")
    assert "cannot be read" in molar().stdout
    assert len(cache.prune(0)) == 1 and not path.exists()


@pytest.mark.parametrize("stage", EMBEDDING)
def test_nothing_is_removed_while_another_scratch_root_s_run_may_fill_it(root, monkeypatch, stage):
    path = fill("new", 2)
    with monkeypatch.context() as clone:
        clone.setenv("MOLAR_SCRATCH", str(root / "of a clone"))
        with running(stage):
            clone.undo()
            assert molar("--prune-days", "0").exit_code == 1 and path.exists()
    assert molar("--prune-days", "0").exit_code == 0 and not path.exists()
