"""The library behind the stages: it knows nothing of DVC or the command line.

Imports point one way only (tests/test_layout.py holds it)::

    stages -> serving, doctor -> recommender -> mirm -> catalog -> checkpoints, artifacts, params
    world (the demo's raw data)      retrieval (a leaf that anyone may use)      report (draws results)
"""
