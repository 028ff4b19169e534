"""Source `movielens`: every edition from a few lines, and the real ones where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.catalog import sources
from pipeline.catalog.catalogue import open_items, open_sequences
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.sources import movielens
from pipeline.catalog.sources.movielens import _title_and_year
from pipeline.errors import MolarError
from tests.catalog.shop import ingest, ingest_params, png

MOVIES = "1::Toy Story (1995)::Animation|Children's\n2::Fugitive, The (1993)::Thriller\n3::Café (1990)::Drama\n"
RATINGS = "1::2::5::978300760\n1::1::3::978302109\n2::3::4::978302110\n"
PLOTS = (
    "1::Toy Story::1995::G::22 Nov 1995::Animation::John Lasseter::W::A::A toy :: a boy.::url\r\n"
    "2::The Fugitive::1993::PG::1993::Thriller::N/A::W::A::N/A::url\r\n"
)


def one_million(root: Path) -> Path:
    root.mkdir()
    (root / "movies.dat").write_text(MOVIES, "latin-1")
    (root / "ratings.dat").write_text(RATINGS, "latin-1")
    (root / "movies_extrainfos.dat").write_text(PLOTS, "utf-8", newline="")
    (root / "images").mkdir()
    (root / "images" / "2.jpg").write_bytes(png())
    return root


def hundred_thousand(root: Path) -> Path:
    root.mkdir()
    (root / "u.genre").write_text("unknown|0\nAction|1\nDrama|2\n\n", "latin-1")
    (root / "u.item").write_text(
        "1|Toy Story (1995)|01-Jan-1995||url|0|1|1\n2|unknown||||1|0|0\n3|Café (1990)|||url|0|0|1\n", "latin-1"
    )
    (root / "u.data").write_text("1\t3\t5\t30\n1\t1\t4\t30\n2\t2\t1\t7\n", "latin-1")
    return root


def as_csv(root: Path, tags: str | None = None) -> Path:
    """ml-latest-small's manner: Windows line ends, quotes where a title holds commas or quotes, links beside."""
    root.mkdir()
    files = {
        "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Children\n"
        '2,"American President, The (1995)",Comedy\n'
        '3,"""Great Performances"" Cats (1998)",Musical\n'
        "4,Café 2007,(no genres listed)\n",
        "ratings.csv": "userId,movieId,rating,timestamp\n7,2,4.5,978300760\n7,1,.5,978302109\n8,4,3.0,964982703\n",
        "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
    }
    for name, text in (files | ({} if tags is None else {"tags.csv": tags})).items():
        (root / name).write_text(text, "utf-8", newline="\r\n")
    return root


def params_of(root: Path, **changes: object):
    return ingest_params(root, source="movielens", **changes)


def test_one_million(tmp_path) -> None:
    artifact = ingest(params_of(one_million(tmp_path / "raw")), tmp_path / "catalog")
    items, sequences = open_items(artifact), open_sequences(artifact)
    assert items.item_ids == ["2", "1", "3"]
    assert items.titles == ["The Fugitive", "Toy Story", "Café"]
    assert items.texts == [None, "A toy :: a boy.", None], "N/A is no plot, and a plot may hold the separator"
    assert items.attributes == [
        {"genres": "Thriller", "year": "1993"},
        {"genres": "Animation, Children's", "year": "1995", "director": "John Lasseter"},
        {"genres": "Drama", "year": "1990"},
    ]
    assert items.has_image.tolist() == [True, False, False]
    assert sequences.user_ids == ["1", "2"]


def test_hundred_thousand(tmp_path) -> None:
    artifact = ingest(params_of(hundred_thousand(tmp_path / "raw")), tmp_path / "catalog")
    items, sequences = open_items(artifact), open_sequences(artifact)
    assert items.item_ids == ["2", "3", "1"]
    assert items.titles == [None, "Café", "Toy Story"]
    assert items.attributes == [
        {},
        {"genres": "Drama", "year": "1990"},
        {"genres": "Action, Drama", "year": "1995"},
    ]
    assert sequences.history(sequences.user_ids.index("1")).tolist() == [1, 2], "a tie keeps the order of u.data"


def test_ten_million(tmp_path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    (root / "movies.dat").write_text("1::Café (1995)::Drama\n2::M (1931)::(no genres listed)\n", "utf-8")
    (root / "ratings.dat").write_text("1::1::4.5::838985046\n1::2::0.5::838983525\n", "utf-8")
    (root / "tags.dat").write_text("15::4973::excellent!::1215184630\n", "utf-8")
    assert movielens.recognises(root) == "MovieLens 10M (ratings.dat, movies.dat)"
    raw = sources.read(params_of(root), Quarantine())
    assert [(item.title, item.attributes) for item in raw.items] == [
        ("Café", {"genres": "Drama", "year": "1995"}),
        ("M", {"year": "1931"}),
    ]
    assert raw.interactions.rating is not None and raw.interactions.rating.tolist() == [4.5, 0.5]


def test_csv_edition(tmp_path) -> None:
    root = as_csv(tmp_path / "raw")
    (root / "images").mkdir()
    (root / "images" / "4.jpg").write_bytes(png())
    artifact = ingest(params_of(root), tmp_path / "catalog")
    items, sequences = open_items(artifact), open_sequences(artifact)
    assert items.item_ids == ["4", "2", "1"]
    assert items.titles == ["Café 2007", "The American President", "Toy Story"]
    assert items.attributes == [
        {},
        {"genres": "Comedy", "year": "1995"},
        {"genres": "Adventure, Children", "year": "1995"},
    ]
    assert items.has_image.tolist() == [True, False, False]
    assert sequences.user_ids == ["8", "7"]
    raw = sources.read(params_of(root), Quarantine())
    assert raw.items[2].title == '"Great Performances" Cats'
    assert raw.interactions.rating is not None and raw.interactions.rating.tolist() == [4.5, 0.5, 3.0]


def test_tags_are_the_words_that_users_share(tmp_path) -> None:
    rows = [(user, 1, tag) for tag in "fedcba" for user in "78"]  # five of six are kept, in alphabetical order
    rows += [("9", 1, "F"), ("9", 1, " f "), ("7", 2, "mine"), ("7", 2, "mine"), ("7", 99, "x"), ("8", 99, "x")]
    tags = "userId,movieId,tag,timestamp\n" + "".join(f"{user},{movie},{tag},9\n" for user, movie, tag in rows)
    quarantine = Quarantine()
    raw = sources.read(params_of(as_csv(tmp_path / "raw", tags + "7,1,  ,9\n7,1\n")), quarantine)
    by_id = {item.item_id: item.attributes.get("tags") for item in raw.items}
    assert by_id == {"1": "f, a, b, c, d", "2": None, "3": None, "4": None}, "one user's words are no tag"
    assert sorted(quarantine.entries) == [
        ("tags.csv", 20, "tag is empty", "  "),
        ("tags.csv", 21, "wrong number of fields", "7,1"),
    ]
    assert raw.rows_read["tags.csv"] == 20


def test_a_csv_without_a_column(tmp_path) -> None:
    root = as_csv(tmp_path / "raw", "userId,movieId,word,timestamp\n")
    with pytest.raises(MolarError) as error:
        sources.read(params_of(root), Quarantine())
    assert str(error.value) == (
        f"{root}/tags.csv has no column 'tag' (it has userId, movieId, word, timestamp): unpack the archive again"
    )


def test_minimum_rating(tmp_path) -> None:
    artifact = ingest(params_of(one_million(tmp_path / "raw"), min_rating=4.0), tmp_path / "catalog")
    assert open_items(artifact).item_ids == ["2", "3"]


def test_lines_that_do_not_fit(tmp_path) -> None:
    root = one_million(tmp_path / "raw")
    (root / "movies.dat").write_text(MOVIES + "4::No genres (1999)\n1::Twice (2000)::Drama\n", "latin-1")
    (root / "ratings.dat").write_text(RATINGS + "1::2::5\n1::2::five::9\n", "latin-1")
    (root / "movies_extrainfos.dat").write_text(PLOTS + "3::Café\n", "utf-8", newline="")
    quarantine = Quarantine()
    raw = sources.read(params_of(root), quarantine)
    assert sorted(quarantine.entries) == [
        ("movies.dat", 4, "wrong number of fields", "4::No genres (1999)"),
        ("movies.dat", 5, "item id stands in an earlier row too", "1"),
        ("movies_extrainfos.dat", 3, "wrong number of fields", "3::Café"),
        ("ratings.dat", 4, "wrong number of fields", "1\t2\t5"),
        ("ratings.dat", 5, "rating is not a number", "five"),
    ]
    assert raw.rows_read == {"ratings.dat": 5, "movies.dat": 5, "movies_extrainfos.dat": 3}


def test_no_edition(tmp_path) -> None:
    with pytest.raises(MolarError) as error:
        sources.read(params_of(tmp_path), Quarantine())
    assert str(error.value) == (
        f"{tmp_path} is no MovieLens: it needs ratings.dat and movies.dat (1M, 10M), u.data, u.item and u.genre "
        f"(100K), or ratings.csv and movies.csv (later): point ingest.path at the unpacked archive"
    )


def test_a_tab_among_double_colons(tmp_path) -> None:
    root = one_million(tmp_path / "raw")
    (root / "ratings.dat").write_text("1\t2\t5\t9\n", "latin-1")
    with pytest.raises(MolarError) as error:
        sources.read(params_of(root), Quarantine())
    assert str(error.value) == (
        f"{root}/ratings.dat holds a TAB: its fields are separated by '::' alone, unpack it again"
    )


@pytest.mark.parametrize(
    ("written", "name", "year"),
    [
        ("Toy Story (1995)", "Toy Story", "1995"),
        ("Fugitive, The (1993)", "The Fugitive", "1993"),
        ("Promise, The (La Promesse) (1996)", "The Promise (La Promesse)", "1996"),
        ("Two Friends (1986) ", "Two Friends", "1986"),
        ("Land Before Time III (1995) (V)", "Land Before Time III", "1995"),
        ("Death Note: Desu nôto (2006–2007)", "Death Note: Desu nôto", "2006"),
        ("Fawlty Towers (1975-)", "Fawlty Towers", "1975"),
        ("Cyclo, The (Xich lo, La) (1995)", "The Cyclo (Xich lo, La)", "1995"),
        ("unknown", None, None),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", "1968"),
    ],
)
def test_titles(written, name, year) -> None:
    assert _title_and_year(written) == (name, year)


def real(name: str) -> Path:
    folder = os.environ.get("MOLAR_REAL_DATA")
    if folder is None or not (Path(folder) / name).is_dir():
        pytest.skip(f"MOLAR_REAL_DATA names no folder that holds {name}/")
    return Path(folder) / name


def test_real_hundred_thousand(tmp_path) -> None:
    root = real("ml-100k")
    artifact = ingest(params_of(root), tmp_path / "catalog")
    sequences, items = open_sequences(artifact), open_items(artifact)
    assert (len(sequences), len(items), len(sequences.items)) == (943, 1_682, 100_000)
    assert int(items.has_image.sum()) == 1_412
    # The protocol of peers.md: last item by a stable sort on time, ties in file order, against a plain loop.
    last: dict[str, tuple[int, str]] = {}
    for line in (root / "u.data").read_text("latin-1").splitlines():
        user, item, _, time = line.split("\t")
        if user not in last or int(time) >= last[user][0]:
            last[user] = (int(time), item)
    queries = sequences.queries("test")
    targets = {sequences.user_ids[u]: items.item_ids[t] for u, t in zip(queries.user, queries.target, strict=True)}
    assert targets == {user: item for user, (_, item) in last.items()}


def test_real_hundred_thousand_against_recbole(tmp_path) -> None:
    """RecBole sorts by min-max scaled float32 timestamps: 939 of its 943 test items are ours (peers.md 2)."""
    root = real("ml-100k")
    artifact = ingest(params_of(root), tmp_path / "catalog")
    sequences, items = open_sequences(artifact), open_items(artifact)
    table = np.loadtxt(root / "u.data", dtype=np.int64)
    time = table[:, 3].astype(np.float64)
    scaled = ((time - time.min()) / (time.max() - time.min())).astype(np.float32)
    order = np.lexsort((scaled, table[:, 0]))  # stable: ties keep file order
    ends = np.append(np.flatnonzero(np.diff(table[order, 0])), len(order) - 1)
    theirs = dict(zip(table[order[ends], 0].astype(str), table[order[ends], 1].astype(str), strict=True))
    queries = sequences.queries("test")
    same = [
        theirs[sequences.user_ids[u]] == items.item_ids[t] for u, t in zip(queries.user, queries.target, strict=True)
    ]
    assert (len(same), sum(same)) == (943, 939)


def test_real_one_million(tmp_path) -> None:
    artifact = ingest(params_of(real("ml-1m"), min_rating=4.0), tmp_path / "catalog")
    sequences, items = open_sequences(artifact), open_items(artifact)
    assert (len(sequences), len(items), len(sequences.items)) == (5_398, 3_522, 518_897)
    assert int(items.has_image.sum()) == 3_255
