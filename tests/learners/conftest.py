"""Real streams for the learners' tests."""

import numpy as np
import pytest


@pytest.fixture
def real_stream(shared_data):
    """Load a stream by name as (X, y)."""

    def load(name):
        cells = np.genfromtxt(shared_data(f"{name}.csv"), delimiter=",", skip_header=1, dtype=str)
        return cells[:, :-1].astype(float), cells[:, -1].tolist()

    return load
