"""Benchmarks are run by hand and checked by no type checker: at least each of them finds what it imports."""

import importlib

import pytest

from tests.import_closure import ROOT

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_it_imports(name):
    assert importlib.import_module(f"benchmarks.{name}").__doc__
