"""Source `recbole`: atomic files as the RecBole project publishes them, and its sequential benchmark files."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.catalog import sources
from pipeline.catalog.catalogue import open_items, open_sequences
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from tests.catalog.shop import ingest, ingest_params, png, refusal

INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "196\t242\t3\t881250949\n"
    "186\t302\t3.5\t891717742.0\n"
    "196\t302\t4\t881250949\n"
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:float\tclass:token_seq\tvector:float_seq\n"
    "242\tKolya\t1996.0\tComedy\t0.1 0.2\n"
    "302\t\"L.A. Confidential\t1997.0\tCrime Film-Noir Children's\t0.3 0.4\n"
    "303\tUlee's Gold\tnan\t\t\n"
)
LISTS = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def folder(root: Path, **files: str) -> Path:
    """Keyword train_inter writes toy.train.inter."""
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"toy.{name.replace('_', '.')}").write_text(text, "utf-8", newline="")
    return root


def read(root: Path, **changes: object) -> tuple[Raw, Quarantine]:
    quarantine = Quarantine()
    return sources.read(ingest_params(root, source="recbole", **changes), quarantine), quarantine


def message(root: Path, **changes: object) -> str:
    return refusal(lambda: read(root, **changes))


def sequences_of(raw: Raw) -> dict[str, list[str]]:
    events = raw.interactions
    found: dict[str, list[tuple[int, str]]] = {}
    for user, item, time in zip(events.user, events.item, events.timestamp, strict=True):
        found.setdefault(events.user_ids[user], []).append((int(time), events.item_ids[item]))
    return {user: [item for _, item in sorted(pairs)] for user, pairs in found.items()}


def test_atomic_files_become_a_catalogue(tmp_path, capsys) -> None:
    root = folder(tmp_path / "raw", inter=INTER, item=ITEM, user="user_id:token\tage:float\n196\t49\n")
    (root / "images").mkdir()
    (root / "images" / "302.jpg").write_bytes(png())
    artifact = ingest(ingest_params(root, source="recbole"), tmp_path / "catalog")
    items, sequences = open_items(artifact), open_sequences(artifact)
    assert items.item_ids == ["242", "302"]
    assert items.titles == ["Kolya", '"L.A. Confidential'], "a lone quote swallows no rows"
    assert items.attributes == [
        {"release_year": "1996.0", "class": "Comedy"},
        {"release_year": "1997.0", "class": "Crime, Film-Noir, Children's"},
    ]
    assert items.has_image.tolist() == [False, True]
    assert sequences.history(sequences.user_ids.index("196")).tolist() == [0, 1], "a tie keeps the order of .inter"
    assert "toy.item: left out as no words: vector" in capsys.readouterr().err


def test_missing_values_are_nothing(tmp_path) -> None:
    raw, quarantine = read(folder(tmp_path, inter=INTER, item=ITEM))
    assert (raw.items[2].title, raw.items[2].attributes) == ("Ulee's Gold", {})
    assert not quarantine.entries and raw.rows_read == {"toy.inter": 3, "toy.item": 3}


def test_columns_are_found_in_any_order_and_windows_line_ends_are_no_words(tmp_path) -> None:
    inter = 'timestamp:float\treview:token_seq\titem_id:token\tuser_id:token\n7\tso "good\tb\tann\n8\t\ta\tann\n'
    item = "price:float\tname:token\titem_id:token\n5\tApple\ta\n6.50\tBoot\tb\n"
    root = folder(tmp_path, inter="\ufeff" + inter.replace("\n", "\r\n"), item=item.replace("\n", "\r\n"))
    raw, quarantine = read(root)
    assert sequences_of(raw) == {"ann": ["b", "a"]} and raw.interactions.rating is None
    assert [(i.item_id, i.title, i.attributes) for i in raw.items] == [
        ("a", "Apple", {"price": "5"}),
        ("b", "Boot", {"price": "6.50"}),
    ]
    assert not quarantine.entries


@pytest.mark.parametrize(
    ("columns", "title"),
    [
        (["brand_name", "title"], "title"),
        (["name", "movie_title"], "movie_title"),
        (["sub_title", "title"], "title"),
        (["artist_name", "name"], "name"),
        (["artist_name", "album"], "artist_name"),
        (["brand"], None),
    ],
)
def test_the_title_is_the_column_that_says_so(tmp_path, columns, title) -> None:
    header = "\t".join(["item_id:token", *(f"{name}:token" for name in columns)])
    root = folder(tmp_path, inter=INTER, item=f"{header}\n" + "\t".join(["242", *columns]) + "\n")
    item = read(root)[0].items[0]
    assert item.title == title
    assert list(item.attributes) == [name for name in columns if name != title]


@pytest.mark.parametrize(
    ("column", "written", "read_as"),
    [
        ("genre", "Action Sci-Fi", "Action, Sci-Fi"),
        ("categories", "Food, Coffee Bars", "Food, Coffee Bars"),
        ("categories", "Toys & Games", "Toys & Games"),
        ("tags", "'Massively Multiplayer' 'Indie'", "'Massively Multiplayer' 'Indie'"),
        ("description", "A toy and a boy", "A toy and a boy"),
        ("heritage", "old and new", "old and new"),
    ],
)
def test_labels_are_joined_by_commas_and_sentences_are_not(tmp_path, column, written, read_as) -> None:
    root = folder(tmp_path, inter=INTER, item=f"item_id:token\t{column}:token_seq\n242\t{written}\n")
    assert read(root)[0].items[0].attributes == {column: read_as}


def test_without_items_every_item_is_its_id(tmp_path, capsys) -> None:
    raw, _ = read(folder(tmp_path, inter=INTER))
    assert [(item.item_id, item.row, item.title) for item in raw.items] == [("242", 2, None), ("302", 3, None)]
    assert f"{tmp_path} has no toy.item: items are their ids alone, without words" in capsys.readouterr().err


def test_bad_rows_carry_their_line_number(tmp_path) -> None:
    inter = INTER + "196\t242\t3\n\n196\t242\t3\t8.5\n196\t242\tgood\t9\n\t242\t3\t9\n"
    item = ITEM + "242\tAgain\t\t\t\n\tNameless\t\t\t\n"
    raw, quarantine = read(folder(tmp_path, inter=inter, item=item))
    assert sorted(quarantine.entries) == [
        ("toy.inter", 5, "wrong number of fields", "196\t242\t3"),
        ("toy.inter", 7, "timestamp is not a whole number", "8.5"),
        ("toy.inter", 8, "rating is not a number", "good"),
        ("toy.inter", 9, "user is empty", ""),
        ("toy.item", 5, "item id stands in an earlier row too", "242"),
        ("toy.item", 6, "item id is empty", "Nameless"),
    ]
    assert raw.rows_read == {"toy.inter": 7, "toy.item": 5}


def test_a_benchmark_gives_back_whole_sequences(tmp_path) -> None:
    root = folder(
        tmp_path / "raw",
        train_inter=LISTS + "ann\ta b\tc\nann\ta\tb\nbob\tx\ty\n",
        valid_inter=LISTS + "ann\ta b c\td\n",
        test_inter=LISTS + "ann\ta b c d\te\n",
    )
    raw, quarantine = read(root)
    assert sequences_of(raw) == {"ann": ["a", "b", "c", "d", "e"], "bob": ["x", "y"]}
    assert raw.interactions_file == "toy.{train,valid,test}.inter"
    assert raw.interactions.row.tolist() == [8] * 5 + [4] * 2, "as `cat` numbers the lines of the three"
    assert raw.rows_read == {
        "toy.train.inter": 3,
        "toy.valid.inter": 1,
        "toy.test.inter": 1,
        "toy.{train,valid,test}.inter": 7,
    }
    assert not quarantine.entries
    sequences = open_sequences(ingest(ingest_params(root, source="recbole"), tmp_path / "catalog"))
    queries = sequences.queries("test")
    assert [len(history) for history in queries.histories(sequences)] == [4], "the test item is the benchmark's"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("12345"), min_size=3, max_size=9)))
def test_augmented_rows_in_any_order_give_the_sequences_they_came_from(tmp_path, sequences) -> None:
    rows: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user, items in sequences.items():
        for end in range(len(items) - 1, 0, -1):
            split = {len(items) - 1: "test", len(items) - 2: "valid"}.get(end, "train")
            rows[split].append(f"{user}\t{' '.join(items[:end])}\t{items[end]}\n")
    files = {f"{split}_inter": LISTS + "".join(lines) for split, lines in rows.items()}
    assert sequences_of(read(folder(tmp_path, **files))[0]) == sequences


def test_lists_that_were_cut_keep_the_latest_and_say_so(tmp_path, capsys) -> None:
    rows = {"train": "ann\ta\tb\nann\ta b\tc\n", "valid": "ann\tb c\td\n", "test": "ann\tc d\te\nann\t\tc\n\td\te\n"}
    raw, quarantine = read(folder(tmp_path, **{f"{split}_inter": LISTS + text for split, text in rows.items()}))
    assert sequences_of(raw) == {"ann": ["c", "d", "e"]}
    said = "3 of 5 rows hold items that their user's longest list lacks: was it cut?"
    assert said in capsys.readouterr().err
    assert quarantine.entries == [("toy.test.inter", 4, "user is empty", "e")]


def test_the_whole_file_is_preferred_to_its_benchmark_splits(tmp_path) -> None:
    raw, _ = read(folder(tmp_path, inter=INTER, train_inter=LISTS + "ann\ta\tb\n"))
    assert raw.interactions_file == "toy.inter"


def test_two_data_sets(tmp_path) -> None:
    (folder(tmp_path, inter=INTER) / "other.train.inter").write_text(LISTS)
    assert message(tmp_path) == f"{tmp_path} holds more than one data set (other, toy): give each its own folder"


def test_no_data_set(tmp_path) -> None:
    assert (
        message(tmp_path) == f"{tmp_path} holds no .inter file: point ingest.path at the folder of a RecBole data set"
    )


@pytest.mark.parametrize("header", ["user_id\titem_id\ttimestamp", "user_id:token,item_id:token", "", "user_id:str"])
def test_a_header_without_types(tmp_path, header) -> None:
    folder(tmp_path, inter=f"{header}\n1\t2\t3\n")
    field = header.split("\t")[0]
    assert message(tmp_path) == (
        f"{tmp_path}/toy.inter: header field {field!r} is no name:type: write a type (token, token_seq, float, "
        f"float_seq) after each name, and a TAB between fields"
    )


def test_missing_and_repeated_columns(tmp_path) -> None:
    folder(tmp_path, inter="user_id:token\titem_id:token\n1\t2\n")
    assert message(tmp_path) == (
        f"{tmp_path}/toy.inter has no column 'timestamp' (it has user_id, item_id): name the column so in the header"
    )
    folder(tmp_path, inter=INTER, item="id:token\n242\n")
    assert message(tmp_path) == (
        f"{tmp_path}/toy.item has no column 'item_id' (it has id): name the column so in the header"
    )
    folder(tmp_path, inter="user_id:token\tuser_id:token\n1\t2\n")
    assert message(tmp_path) == f"{tmp_path}/toy.inter has more than one column 'user_id': rename all but one"


def test_a_minimum_rating_needs_ratings(tmp_path) -> None:
    folder(tmp_path, test_inter=LISTS + "ann\ta\tb\n")
    assert message(tmp_path, min_rating=4.0) == (
        f"ingest.min_rating = 4 needs ratings, {tmp_path}/toy.{{test}}.inter has no column 'rating': "
        f"set ingest.min_rating to null"
    )


def test_latin_1_is_refused_in_one_line(tmp_path) -> None:
    folder(tmp_path, inter=INTER)
    (tmp_path / "toy.item").write_bytes("item_id:token\tname:token\n242\tCafé\n".encode("latin-1"))
    assert "toy.item cannot be read" in message(tmp_path) and "save it as UTF-8 text" in message(tmp_path)
