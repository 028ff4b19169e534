"""Published counts beside those read: like with like, and a short download is said aloud."""

import json
import typing

import pytest

from pipeline.catalog import published, summary
from pipeline.catalog.published import PUBLISHED, Published
from pipeline.params.ingest import Ingest
from pipeline.progress import console
from tests.catalog.shop import INTERACTIONS, ingest, ingest_params, write_shop


def test_the_param_takes_the_names_of_the_table() -> None:
    literal, _ = typing.get_args(Ingest.model_fields["published"].annotation)
    assert set(typing.get_args(literal)) == set(PUBLISHED)


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """The shop as if it were a known data set with these counts; what summary.json says, and what is printed."""

    def run(*counts, items_are="chosen", filtered=False, **changes):
        monkeypatch.setitem(PUBLISHED, "ml-1m", Published("Shop", "a sign", *counts, items_are, filtered))
        root = write_shop(tmp_path / "raw", INTERACTIONS + "ann,zebra,40\n")
        params = ingest_params(root, published="ml-1m", max_quarantine=0.5, **changes)
        facts = json.loads(ingest(params, tmp_path / "catalog").file("summary.json").read_text())
        with console.capture() as capture:
            summary.show(facts)
        return facts["published"], capture.get()

    return run


def test_rows_as_read_stand_beside_rows_as_published(compared) -> None:
    found, said = compared(7, 2, 4, items_are="listed", k_core=2)
    assert found["published"] == {"interactions": 7, "users": 2, "items": 4}
    assert found["read"] == {"interactions": 7, "users": 2, "items": 4} and found["far"] == []
    assert "published (a sign)" in said and "download" not in said


def test_a_short_download_is_said_aloud(compared) -> None:
    found, said = compared(14, 2, 5)
    assert found["read"]["items"] == 4, "a, b, c and zebra were chosen"
    assert found["far"] == ["interactions", "items"]
    assert (
        "Shop: 7 interactions read, 14 published (-50%), 4 items read, 5 published (-20%): "
        "this may be a wrong or partial download"
    ) in said


def test_counts_after_filters_stand_beside_ours_after_filters(compared) -> None:
    found, said = compared(600, 20, 30, filtered=True)
    assert found["after_filters"] == {"interactions": 6, "users": 2, "items": 3} and found["far"] == []
    assert "after filters" in said and "download" not in said


def test_an_unknown_data_set_leaves_the_summary_alone(tmp_path) -> None:
    artifact = ingest(ingest_params(write_shop(tmp_path / "raw")), tmp_path / "catalog")
    assert "published" not in json.loads(artifact.file("summary.json").read_text())
    assert all(count.interactions > count.users for count in published.PUBLISHED.values())
