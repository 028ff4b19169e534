"""`ingest.source: auto`: each layout is recognised by one source, and a doubt is one line that names the way out."""

import typing
from pathlib import Path

import pytest

from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from pipeline.params.ingest import Ingest
from tests.catalog.shop import ingest_params, refusal, write_shop

LAYOUTS = {
    "own tables (interactions.csv, items.parquet)": ("tables", ["interactions.csv", "items.parquet"]),
    "MovieLens 1M (ratings.dat, movies.dat)": ("movielens", ["ratings.dat", "movies.dat", "users.dat"]),
    "MovieLens 10M (ratings.dat, movies.dat)": ("movielens", ["ratings.dat", "movies.dat", "tags.dat"]),
    "MovieLens 100K (u.data, u.item, u.genre)": ("movielens", ["u.data", "u.item", "u.genre", "ua.base"]),
    "MovieLens as CSV (ratings.csv, movies.csv)": ("movielens", ["ratings.csv", "movies.csv", "links.csv"]),
    "RecBole atomic files (toy.inter)": ("recbole", ["toy.inter", "toy.item"]),
    "RecBole atomic files (toy.test.inter, toy.train.inter)": ("recbole", ["toy.train.inter", "toy.test.inter"]),
}


def write(root: Path, names: list[str], first_line: str = "userId,movieId,rating,timestamp\n") -> None:
    root.mkdir(exist_ok=True)
    for name in names:
        (root / name).write_text(first_line)


def message(root: Path) -> str:
    return refusal(lambda: sources.read(ingest_params(root, source="auto"), Quarantine()))


@pytest.mark.parametrize("words", LAYOUTS)
def test_one_source_alone_recognises_a_layout(tmp_path, words) -> None:
    name, files = LAYOUTS[words]
    write(tmp_path, files)
    seen = {source: module.recognises(tmp_path) for source, module in sources.SOURCES.items()}
    assert {source: found for source, found in seen.items() if found is not None} == {name: words}


@pytest.mark.parametrize(
    "files", [["interactions.csv"], ["interactions.csv", "items.txt"], ["u.data", "u.item"], ["toy.item"]]
)
def test_half_a_layout_is_nobodys(tmp_path, files) -> None:
    write(tmp_path, files)
    assert not any(source.recognises(tmp_path) for source in sources.SOURCES.values())


def test_another_ratings_csv_is_not_movielens(tmp_path) -> None:
    write(tmp_path, ["ratings.csv", "movies.csv"], "user;film;stars\n")
    assert not any(source.recognises(tmp_path) for source in sources.SOURCES.values())


def test_what_was_recognised_is_said_and_read(tmp_path, capsys) -> None:
    root = write_shop(tmp_path / "raw")
    raw = sources.read(ingest_params(root, source="auto"), Quarantine())
    assert [item.item_id for item in raw.items] == ["a", "b", "c", "d"]
    assert capsys.readouterr().err == f"{root} holds own tables (interactions.csv, items.csv): source 'tables'\n"


def test_nothing_recognised(tmp_path) -> None:
    found = message(tmp_path)
    assert found.startswith(
        f"{tmp_path} holds nothing that ingest.source = 'auto' recognises: add what a source needs: "
        f"'tables' interactions and items, each .csv, .parquet or .jsonl; 'movielens' "
    )
    for name, source in sources.SOURCES.items():
        assert f"'{name}' {source.NEEDS}" in found


def test_more_than_one_recognised(tmp_path) -> None:
    write(write_shop(tmp_path / "raw"), ["toy.inter"])
    root = tmp_path / "raw"
    assert message(root) == (
        f"{root} is more than one source's: 'tables' sees own tables (interactions.csv, items.csv); "
        f"'recbole' sees RecBole atomic files (toy.inter): name the one you mean in ingest.source"
    )


def test_params_take_the_name_of_every_source() -> None:
    assert set(typing.get_args(Ingest.model_fields["source"].annotation)) == {"auto", *sources.SOURCES}
