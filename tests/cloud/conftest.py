"""What every test of the cloud needs afterwards."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _policy_engine_ends_on_its_own_thread() -> Iterator[None]:
    """Collect a cloud that has ended here: the policy engine may not die on a worker thread."""
    yield
    gc.collect()
