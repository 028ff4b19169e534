"""The stage `demo`: both outs complete, one closing line, a second process refused."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import artifacts, checkpoints
from stages import demo, paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with the repository's params.yaml and a small world in it."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text("utf-8"))
    params["demo"].update(users=50, items=40, cold_items=5)
    with (tmp_path / "params.yaml").open("w", encoding="utf-8") as handle:
        yaml.dump(params, handle)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOLAR_SCRATCH", raising=False)
    return tmp_path


def test_writes_both_outs_and_says_so(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    demo.main()
    raw, truth = (artifacts.read(folder, stage="demo") for folder in (paths.DEMO, paths.WORLD))
    for artifact in (raw, truth):
        artifact.verified()
        assert artifact.facts["users"] == 50 and artifact.facts["items"] == 40
    assert [name for name in raw.names if not name.startswith("images/")] == [
        "README.txt",
        "cold_items.txt",
        "interactions.csv",
        "items.csv",
    ]
    assert truth.names == ["drift.parquet", "events.parquet", "items.parquet", "weights.parquet"]
    line = capfd.readouterr().err.strip()
    assert line.startswith("demo: 50 users, 40 items with pictures, ") and line.endswith(" s -> data/raw/demo")


def test_a_second_process_is_refused(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with checkpoints.locked("demo"), pytest.raises(SystemExit) as exit_:
        demo.main()
    assert exit_.value.code == 1
    assert "demo is already running here" in capfd.readouterr().err
    assert not paths.DEMO.exists() and not paths.WORLD.exists()
