"""The compiled decoder: the same vectors, in a cache of their own, every shape compiled, and one line if it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import MolarError
from pipeline.mirm import compiling, embed
from pipeline.mirm.cache import cache_root
from pipeline.mirm.compiling import compiled_decoder
from pipeline.mirm.embed import Encoder, embed_items
from tests.mirm.shop import backbone
from tests.mirm.test_embed import CPU, DIGESTS, params, some_of


@pytest.fixture(autouse=True)
def a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLAR_CACHE", str(tmp_path / "cache"))


def by_eager(*given: object) -> object:
    """Dynamo and its limits without inductor's minute."""
    return compiled_decoder(*given, backend="eager")  # type: ignore[arg-type]


def test_vectors_are_the_same_in_a_cache_of_their_own_and_the_model_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mirm, shop = backbone(), some_of([0, 1, 2])
    plain = embed_items(mirm, shop, params(), DIGESTS, CPU)
    monkeypatch.setattr(embed, "compiled_decoder", by_eager)
    found = embed_items(mirm, shop, params(compile=True), DIGESTS, CPU)
    assert found.encoded == plain.encoded == 3 and len(list(cache_root().glob("*.sqlite"))) == 2
    np.testing.assert_allclose(found.embeddings_ND, plain.embeddings_ND, atol=1e-5)
    assert embed_items(mirm, shop, params(), DIGESTS, CPU).encoded == 0
    assert mirm.model.get_decoder()._compiled_call_impl is None


def test_every_shape_is_compiled_and_one_too_many_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    mirm = backbone()
    encoder = Encoder(mirm, some_of([0, 2, 6]), "text+image", CPU, 128)
    shapes = {encoder.shape(batch[0]) for batch in encoder.batches()}
    assert len(shapes) > 1
    seen: list[object] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        seen.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with compiled_decoder(mirm, CPU, backend):  # type: ignore[arg-type]
        for batch in encoder.batches():
            encoder.encode(batch)
    assert len(seen) == len(shapes)
    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "SHAPES", 1)
    with (
        pytest.raises(
            MolarError, match=r"^embed_items\.compile: the decoder does not compile here \(.*compile to false$"
        ),
        compiled_decoder(mirm, CPU, "eager"),
    ):
        for batch in encoder.batches():
            encoder.encode(batch)


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_without_a_compiler_it_is_said_before_any_item(
    monkeypatch: pytest.MonkeyPatch, device: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "no-such-compiler")
    with (
        pytest.raises(MolarError) as error,
        compiled_decoder(backbone(), torch.device(device)),
    ):
        pytest.fail("entered")
    assert str(error.value) == (
        "embed_items.compile: no compiler is found here (no-such-compiler): install one and name it in "
        f"{variable}, or set embed_items.compile to false"
    )
