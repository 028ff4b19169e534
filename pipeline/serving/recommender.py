"""What a finished run recommends, asked from Python. It serves what data/index holds, the DUEG or the score sum.

    recommender = Recommender.load("data")
    recommender.recommend(history=["i0007", "i0042"], k=10, where=pc.field("brand") == "alba")
    recommender.similar("i0007")

Promises. Lists are those of `molar recommend` and of data/evaluation: the same models, index, scores and order, ties by
item number. (A user vector computed alone may differ in its last bit from one computed in a batch.)

A new item moves no score of another one, and counts from then on in lists, neighbours and histories, just as a cold
item of the catalogue. Content is all that either needs; the teacher knows neither. So the score sum gives both the mean
of the user's teacher scores in the teacher's place, and the teacher reads a history without them: of a history that
holds nothing else there is no sum.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from pipeline import artifacts, device, params
from pipeline.artifacts import Artifact
from pipeline.catalog.names import find_user
from pipeline.errors import MolarError
from pipeline.mirm.own import OWN_EMBEDDINGS, OWN_MIRM, own_or
from pipeline.mirm.shards import conditioned
from pipeline.recommender import grid, score_sum
from pipeline.retrieval import index
from pipeline.retrieval.rank import top_k
from pipeline.serving import tables
from pipeline.serving.catalogue import RANK, SCORE, Catalogue, existing
from pipeline.serving.content import Content, One, Picture, one_of
from pipeline.serving.given import attributes_of, histories_of, refuse_empty, text_of, users_of
from pipeline.serving.growing import Found, Growing


class Recommender:
    """A run that is ready to be asked. `catalogue` holds its items and users, those added here included."""

    def __init__(
        self,
        catalogue: Catalogue,
        dueg: grid.Recommender,
        teacher: grid.Recommender | None,
        mix: score_sum.ScoreSum | None,
        searcher: Callable[[NDArray[np.float32]], index.Searcher],
        content: Content,
        features: Callable[[], NDArray[np.float32]],
        mask_seen: bool,
    ) -> None:
        """See `load`. `searcher` makes one of the item vectors, `features` reads the conditioned embeddings (N, K)."""
        self.catalogue, self.mask_seen = catalogue, mask_seen
        self._dueg, self._teacher, self._mix, self._content, self._features = dueg, teacher, mix, content, features
        self._searcher = Growing(searcher(self._served.item_vectors()))

    @classmethod
    def load(
        cls, folder: str | PathLike[str] = "data", *, catalogue: Catalogue | None = None, on: str | None = None
    ) -> Recommender:
        """The run in that `data` folder, with params.yaml beside it; `on` is cpu, cuda, cuda:N or None: params.yaml's.

        Raises MolarError: no such folder, a stage that has not run or whose files are damaged, parts of different runs,
        a device that is not there.
        """
        data = existing(folder)
        asked_in = data.parent / "params.yaml"
        asked = params.load_params(asked_in)
        where = str(device.pick(params.load_runtime(asked_in)) if on is None else device.named(on, "on"))
        found = catalogue or Catalogue.open(data)
        catalogue = Catalogue(found.stored, found.sequences)  # one of its own, which `add_item` may change
        index_of = artifacts.read(data / "index", "build_index")
        dueg_of = artifacts.read(data / "dueg", "train_dueg")
        embeddings = own_or(dueg_of, OWN_EMBEDDINGS, artifacts.read(data / "embeddings", "embed_items"))
        mirm = own_or(dueg_of, OWN_MIRM, Artifact(data / "mirm", "finetune_mirm"))  # read with the first new item
        _of_one_catalogue({"embeddings": embeddings.facts["items"]}, len(catalogue), data)
        dueg = tables.frozen(grid.load_recommender(dueg_of, embeddings, where))
        mix, teacher = score_sum.read(index_of), None
        if mix is not None:
            teacher_of = artifacts.read(data / "teacher", "train_teacher")
            teacher = tables.frozen(grid.load_recommender(teacher_of, None, where))
        counts = {"dueg": dueg.num_items} | ({} if teacher is None else {"teacher": teacher.num_items})
        built = index.read(index_of.file("items.faiss"))
        counts["index"] = built.ntotal + int((~dueg.rankable).sum())
        _of_one_catalogue(counts, len(catalogue), data)
        return cls(
            catalogue,
            dueg,
            teacher,
            mix,
            lambda items_ND: index.Searcher(built, items_ND, where),
            Content(asked.embed_items, asked.ingest, mirm, embeddings, where),
            lambda: conditioned(embeddings),
            asked.protocol.mask_seen,
        )

    def recommend(
        self,
        history: Iterable[str],
        k: int = 10,
        *,
        exclude: Iterable[str] = (),
        where: pc.Expression | None = None,
        seen: bool | None = None,
        user: str | None = None,
    ) -> pa.Table:
        """What comes after a history of item ids, oldest first: a table, best first, of rank (int32, from 1), item_id,
        title, score (float32), then the other columns of `catalogue.items`.

        `exclude`: ids not to be listed. `where`: a pyarrow expression that listed items satisfy (catalogue.py).
        `seen`: list items of the history too; None: as the run's protocol.mask_seen says. `user`: whose history it is,
        one of the run's users; FPMC alone asks. Fewer than `k` rows come where fewer items are left.
        Raises MolarError: an empty history, an unknown id, a filter that cannot be evaluated, a history of which the
        score sum's teacher knows nothing.
        """
        numbers_L = self._history(history)
        candidates_N = self._candidates(exclude, where)
        items_1K, scores_1K = self.search([numbers_L], self._rows(user), k, seen=seen, candidates_N=candidates_N)
        return self._table(items_1K[0], scores_1K[0])

    def similar(self, item: str, k: int = 10, *, where: pc.Expression | None = None) -> pa.Table:
        """The items that look and read most like one, by the cosine (`score`) of conditioned embeddings; columns as
        `recommend`'s. The neighbours are those of `molar look --gallery`: content alone, no user has a say.

        Raises MolarError: an unknown id, a filter that cannot be evaluated.
        """
        numbers = self.catalogue.numbers([item], "similar")
        units_NK, depth = self._units_NK, self._depth(k)
        found, scores = top_k(units_NK[numbers], units_NK, depth, [numbers], self._candidates((), where))
        return self._table(found[0], scores[0])

    def embed_user(self, history: Iterable[str], *, user: str | None = None) -> NDArray[np.float32]:
        """The user vector (D,) float32 that the index is asked with; its dot product with an item's is the score.

        Of the score sum it is the teacher's and the DUEG's side by side. Raises MolarError as `recommend`.
        """
        vector_D: NDArray[np.float32] = self._served.user_vectors([self._history(history)], self._rows(user))[0]
        return vector_D

    def add_item(
        self,
        title: str | None,
        text: str | None = None,
        image: Picture | None = None,
        *,
        attributes: Mapping[str, object] | None = None,
        item_id: str | None = None,
    ) -> str:
        """Embed a new item as the run embedded its own, in memory alone, and return its id (`new-1`, `new-2`, ...).

        `image` is a path, the bytes of a file, or a PIL image (kept as PNG); `attributes` are read in their order, like
        those of the catalogue. Numbers are text to it, None and NaN no value. `catalogue.items` says of it: cold, no
        interactions. The first call loads the encoder and proves it on an item of the catalogue.
        Raises MolarError, and then adds nothing: an item that the run's encoder cannot read, a picture that cannot be
        opened, a value that no text stands for, an id that is taken or empty, models that know items by ID alone.
        """
        tables.refuse_ids_alone(self._dueg)
        named = self.catalogue.free_id(text_of(item_id, "item_id"))
        title, text = (text_of(value, what) for value, what in ((title, "title"), (text, "text")))
        words = (title.strip() or None if title else None), (text.strip() or None if text else None)
        item = One(named, *words, attributes_of(attributes), self._content.picture(image))
        self._content.refuse(item)
        stored = self.catalogue.stored
        proof = int(np.argmax(stored.has_image))
        feature_K = self._content.features(item, one_of(stored, proof), proof)
        units_NK = self._units_NK
        self.catalogue.add(item)
        self._dueg = tables.grown(self._dueg, feature_K)
        if self._teacher is not None:
            self._teacher = tables.grown(self._teacher, feature_K)
        self._searcher.grow(self._served.item_vectors())
        self._units_NK = np.concatenate([units_NK, _units(feature_K[None])])
        return named

    def search(
        self,
        histories: Sequence[NDArray[np.int32]],
        users: ArrayLike | None = None,
        k: int = 10,
        *,
        seen: bool | None = None,
        candidates_N: NDArray[np.bool_] | None = None,
    ) -> Found:
        """`recommend` for many histories at once, all of it in numbers: items of the catalogue, rows of its users.

        Row -1 is no user's. Returns items (Q, k) int32 and scores (Q, k) float32, best first, -1 and -inf where fewer
        are left; k is at most the number of items.
        Raises MolarError: an empty history, a number that no item or no user has, rows that are not one a history.
        """
        depth, listed = self._depth(k), not self.mask_seen if seen is None else seen
        histories = histories_of(histories, len(self.catalogue))
        users_Q = users_of(users, len(histories), len(self.catalogue.user_ids))
        users_QD = self._served.user_vectors(histories, users_Q)
        return self._searcher.search(users_QD, depth, None if listed else histories, candidates_N)

    @property
    def _served(self) -> score_sum.Ranker:
        if self._mix is None or self._teacher is None:
            return self._dueg
        return score_sum.Summed(self._teacher, self._dueg, self._mix)

    @cached_property
    def _units_NK(self) -> NDArray[np.float32]:
        return _units(self._features())

    def _depth(self, k: int) -> int:
        """How long a list of k items can be: memory is allocated for it."""
        return min(_positive(k), len(self.catalogue))

    def _history(self, history: Iterable[str]) -> NDArray[np.int32]:
        numbers_L = self.catalogue.numbers(history, "history")
        refuse_empty(numbers_L, "history")
        return numbers_L

    def _rows(self, user: str | None) -> NDArray[np.int32] | None:
        return None if user is None else np.array([find_user(self.catalogue.user_ids, user)], np.int32)

    def _candidates(self, exclude: Iterable[str], where: pc.Expression | None) -> NDArray[np.bool_] | None:
        excluded = self.catalogue.numbers(exclude, "exclude")
        if where is None and not len(excluded):
            return None
        kept_N = np.ones(len(self.catalogue), np.bool_) if where is None else self.catalogue.where(where)
        kept_N[excluded] = False
        return kept_N

    def _table(self, items_K: NDArray[np.int32], scores_K: NDArray[np.float32]) -> pa.Table:
        real_K = items_K >= 0
        rows = self.catalogue.rows(items_K[real_K].tolist())
        ranks, scores = np.arange(1, len(rows) + 1, dtype=np.int32), scores_K[real_K]
        return rows.add_column(0, RANK, pa.array(ranks)).add_column(3, SCORE, pa.array(scores))


def _units(rows_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows over their norms; a row of zeros stays one."""
    norms_N1 = np.linalg.norm(rows_NK, axis=1, keepdims=True)
    return (rows_NK / np.where(norms_N1 > 0, norms_N1, 1)).astype(np.float32)


def _positive(k: int) -> int:
    """A whole number of any library as Python's own, which FAISS insists on."""
    try:
        depth = operator.index(k)
    except TypeError:
        raise MolarError(f"k = {k!r}: should be a whole number") from None
    if depth < 1:
        raise MolarError(f"k = {depth}: should be at least 1")
    return depth


def _of_one_catalogue(counts: Mapping[str, int], wanted: int, data: Path) -> None:
    """Raise MolarError where a folder of the run counts other items than the catalogue."""
    for name, count in counts.items():
        if count != wanted:
            raise MolarError(
                f"{data / name} is of {count:,} items and {data / 'catalog'} of {wanted:,}: they are not of one run, "
                "`dvc repro` makes them one"
            )
