from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kd_asr_slr.kernels import dispatch


@pytest.fixture(params=[1, 3], ids=["one-thread", "three-threads"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiled loops also for small tensors, in so many threads."""
    before = torch.get_num_threads()
    monkeypatch.setattr(dispatch, "SMALLEST", 0)
    monkeypatch.setattr(dispatch, "FOR_A_THREAD", 1)
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
