"""Where things are: the directory under data/ is the noun that a stage makes."""

from pathlib import Path

DATA = Path("data")
RAW = Path("data/raw")
DEMO = RAW / "demo"
WORLD = Path("data/world")  # the demo world's truth; only `evaluate` may read it, for the oracle and the ceiling
CATALOG = Path("data/catalog")
TEACHER = Path("data/teacher")
MIRM = Path("data/mirm")
EMBEDDINGS = Path("data/embeddings")
DUEG = Path("data/dueg")
INDEX = Path("data/index")
EVALUATION = Path("data/evaluation")
