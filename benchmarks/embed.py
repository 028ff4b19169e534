"""How fast does `embed_items` encode? Beside the loop that people write first, on the same model and items.

    MOLAR_REAL_DATA=... python -m benchmarks.embed                  posters, titles and plots of MovieLens 1M
    MOLAR_REAL_DATA=... python -m benchmarks.embed --words 40       plots cut to 40 words: less padding to save

The plain loop takes items in catalogue order, calls the backbone's processor on texts and pictures in the loop, runs
the whole model with hidden states and takes the last one; it is given its best batch size. sentence-transformers, where
it is installed (`pip install sentence-transformers`), encodes the same prompts by its own multimodal path. Ours is
`Encoder`, without the cache. Model: the tiny backbone of params.yaml with random weights. Rounds alternate, the best of
each counts, and every vector is compared with the plain loop's. Seconds are the processor's on a CPU, so that other
jobs disturb them little, and the clock's on a GPU (`--device cuda`). Prints items a second, the largest difference,
and where our time goes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer

from pipeline import artifacts
from pipeline.catalog.build import build as build_catalog
from pipeline.catalog.catalogue import Items, open_items
from pipeline.mirm.backbone import EMBEDDING_TOKEN
from pipeline.mirm.embed import Encoder
from pipeline.mirm.folder import Mirm, open_backbone, save_mirm
from pipeline.mirm.pictures import Pictures
from pipeline.mirm.prompt import words_of
from pipeline.mirm.tiny import build_tiny
from pipeline.params import load_params

MOST_TOKENS = 2048  # of an item's words, more than any has: neither side has to cut
BATCH_SIZES = (8, 16, 32, 64)
MARK = "<|vision_start|><|image_pad|><|vision_end|>"
TEMPLATE = (  # our prompt in sentence-transformers' terms
    "{% for message in messages %}item{% for part in message.content %}"
    f"{{% if part.type == 'image' %}}{MARK}{{% else %}}{{{{ part.text }}}}{{% endif %}}{{% endfor %}}"
    f"{EMBEDDING_TOKEN}{{% endfor %}}"
)


def prepared(folder: Path, words: int | None = None) -> tuple[Items, Mirm]:
    """The catalogue of real films, plots cut to `words`, and a random tiny backbone whose tokenizer has read it."""
    params = load_params()
    raw = Path(os.environ["MOLAR_REAL_DATA"]) / "ml-1m"
    ingest = {"source": "movielens", "path": str(raw), "min_rating": 4, "k_core": 1, "cold_items": "none"}
    with artifacts.write(folder / "catalog") as out:
        build_catalog(params.ingest.model_copy(update=ingest | {"image_size": 128, "published": None}), out)
    items = open_items(artifacts.read(folder / "catalog", "ingest"))
    items.texts = [" ".join(text.split()[:words]) if text else None for text in items.texts]
    recipe = params.finetune_mirm.model_copy(
        update={"max_text_tokens": MOST_TOKENS, "image_pixels": 7056, "tuning": "none"}
    )
    sizes = recipe.tiny.model_copy(update={"vocabulary": 2000})
    tiny = build_tiny(items, np.arange(len(items)), recipe.instruction, sizes, 0, folder / "backbone")
    return items, open_backbone(recipe, tiny, 0)


def padding(lengths: list[int], size: int) -> float:
    """Share of padding in batches of `size` in the order given; pictures not counted."""
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


@torch.inference_mode()
def plain(mirm: Mirm, items: Items, size: int, device: torch.device) -> np.ndarray:
    """The loop: processor, the model without its head of words, last hidden state at the last token."""
    processor, rows = mirm.processor, []
    model = mirm.model.to(device).eval()
    for start in range(0, len(items), size):
        texts, images = [], []
        for item in range(start, min(start + size, len(items))):
            image = items.image(item)
            texts.append(f"item{MARK if image is not None else ''} {words_of(items, item)}{EMBEDDING_TOKEN}")
            images.append([image] if image is not None else [])
        shown = {"images": images} if any(images) else {}
        batch = processor(text=texts, **shown, padding=True, return_tensors="pt").to(device)
        hidden_BLD = model.model(**batch).last_hidden_state
        last_B = batch["attention_mask"].sum(1) - 1
        rows.append(hidden_BLD[torch.arange(len(texts)), last_B].float().cpu().numpy())
    return np.concatenate(rows)


def peer(mirm: Mirm, device: torch.device) -> Any:
    """sentence-transformers around the same model and processor; it joins picture and words by a chat template."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    with tempfile.TemporaryDirectory() as folder:
        save_mirm(mirm, Path(folder))
        mirm.processor.chat_template = TEMPLATE
        with patch.object(transformer.AutoProcessor, "from_pretrained", return_value=mirm.processor):
            model = transformer.Transformer(folder, transformer_task="feature-extraction")
    width = mirm.model.config.get_text_config().hidden_size
    return SentenceTransformer(modules=[model, Pooling(width, pooling_mode="lasttoken")], device=str(device))


def theirs(model: Any, items: Items, size: int) -> np.ndarray:
    """sentence-transformers' `encode`, which sorts by length itself."""
    asked = [{"text": f" {words_of(items, item)}"} for item in range(len(items))]
    shown = [{"image": image} if (image := items.image(item)) is not None else {} for item in range(len(items))]
    both = [picture | words for picture, words in zip(shown, asked, strict=True)]
    return model.encode(both, batch_size=size, convert_to_numpy=True, show_progress_bar=False)


def ours(mirm: Mirm, items: Items, batch_tokens: int, device: torch.device, bfloat16: bool = False) -> np.ndarray:
    """`embed_items` without its cache."""
    if bfloat16:
        mirm = Mirm(deepcopy(mirm.model).to(torch.bfloat16), mirm.processor, mirm.settings)
    encoder = Encoder(mirm, items, "text+image", device, batch_tokens)
    rows_ND = np.zeros((len(items), mirm.model.config.get_text_config().hidden_size), np.float32)
    for batch in encoder.batches():
        rows_ND[batch] = encoder.encode(batch)
    return rows_ND


@contextmanager
def stopwatch(spent: dict[str, float], name: str, module: Any, method: str) -> Iterator[None]:
    """Add the seconds of every call of module.method to spent[name]."""
    original = getattr(module, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = now()
        try:
            return original(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + now() - start

    setattr(module, method, timed)
    try:
        yield
    finally:
        setattr(module, method, original)


def timed(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds, and what came of it."""
    start = now()
    rows_ND = run()
    return now() - start, rows_ND


def now() -> float:
    """Seconds: the processor's on a CPU, the clock's on a GPU."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def main(
    threads: Annotated[int, typer.Option(help="Of torch, for both.")] = 1,
    rounds: Annotated[int, typer.Option(help="The two take turns; the best of each counts.")] = 3,
    batch_tokens: Annotated[int, typer.Option(help="Ours: padded tokens a batch.")] = 4096,
    words: Annotated[int | None, typer.Option(help="Of a plot at most; not given: whole plots.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    on = torch.device(device)
    with tempfile.TemporaryDirectory() as directory:
        items, mirm = prepared(Path(directory), words)
        lengths = [len(mirm.processor.tokenizer(words_of(items, item)).input_ids) for item in range(len(items))]
        print(f"{len(items):,} items, {int(items.has_image.sum()):,} with a picture; {threads} thread(s), {device}")
        print("tokens of words, by decile: " + ", ".join(f"{n:.0f}" for n in np.percentile(lengths, range(0, 101, 10))))
        print("padding in the plain loop: " + ", ".join(f"{n}: {padding(lengths, n):.0%}" for n in BATCH_SIZES))
        tried = {size: timed(lambda size=size: plain(mirm, items, size, on))[0] for size in BATCH_SIZES}
        size = min(tried, key=tried.__getitem__)
        print("plain loop, s by batch size: " + ", ".join(f"{n}: {seconds:.1f}" for n, seconds in tried.items()))
        others: dict[str, Callable[[], np.ndarray]] = {}
        if find_spec("sentence_transformers"):
            model = peer(mirm, on)
            sizes = {n: timed(lambda n=n: theirs(model, items, n))[0] for n in BATCH_SIZES}
            of_theirs = min(sizes, key=sizes.__getitem__)
            others["sentence-transformers"] = lambda: theirs(model, items, of_theirs)
        else:
            print("sentence-transformers is not installed: left out")
        runs: dict[str, Callable[[], np.ndarray]] = {
            "plain loop": lambda: plain(mirm, items, size, on),
            **others,
            "ours, float32": lambda: ours(mirm, items, batch_tokens, on),
            "ours, bfloat16": lambda: ours(mirm, items, batch_tokens, on, bfloat16=True),
        }
        best = {name: timed(run) for name, run in runs.items()}
        for _ in range(rounds - 1):
            for name, run in runs.items():
                best[name] = min(best[name], timed(run), key=lambda pair: pair[0])
        base_s, base_ND = best["plain loop"]
        print("| | items/s | x plain loop | largest difference | least cosine |\n|---|---|---|---|---|")
        for name, (seconds, rows_ND) in best.items():
            cosine = (rows_ND * base_ND).sum(1) / np.linalg.norm(rows_ND, axis=1) / np.linalg.norm(base_ND, axis=1)
            far = np.abs(rows_ND - base_ND).max()
            print(f"| {name} | {len(items) / seconds:,.1f} | {base_s / seconds:.2f} | {far:.1e} | {cosine.min():.5f} |")
        spent: dict[str, float] = {}
        inner = mirm.model.model
        with (
            stopwatch(spent, "processor", Pictures, "process"),
            stopwatch(spent, "vision tower", inner.visual, "forward"),
            stopwatch(spent, "decoder", inner.language_model, "forward"),
        ):
            whole, _ = timed(runs["ours, float32"])
        spent["the rest"] = whole - sum(spent.values())
        print("our time: " + ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in spent.items()))


if __name__ == "__main__":
    typer.run(main)
