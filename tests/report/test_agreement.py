"""What one user vector tells of another: all, nothing, something in between."""

import numpy as np
import pytest

from pipeline.report.agreement import agreement

RNG = np.random.default_rng(0)
TEACHER_UE = RNG.normal(size=(400, 8)).astype(np.float32)


def test_a_linear_image_tells_everything():
    content_UD = TEACHER_UE @ RNG.normal(size=(8, 12)) + 5.0
    found = agreement(content_UD, TEACHER_UE, 0)
    assert found.among == 200 and found.nearest == 1.0 and found.cosine > 0.999


def test_noise_tells_nothing():
    found = agreement(RNG.normal(size=(400, 12)), TEACHER_UE, 0)
    assert abs(found.cosine) < 0.15 and found.nearest < 0.05


def test_more_noise_tells_less():
    told = [agreement(TEACHER_UE + noise * RNG.normal(size=TEACHER_UE.shape), TEACHER_UE, 0) for noise in (0.2, 1, 4)]
    assert [of.cosine for of in told] == sorted((of.cosine for of in told), reverse=True)
    assert told[0].nearest > told[1].nearest > told[2].nearest


def test_vectors_that_are_all_the_same_divide_nothing_by_zero():
    found = agreement(np.ones((10, 3)), np.zeros((10, 2)), 0)
    assert found.cosine == 0.0
    with pytest.raises(ValueError, match="four users"):
        agreement(np.ones((3, 2)), np.ones((3, 2)), 0)
