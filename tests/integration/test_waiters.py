"""What a wait that is given up leaves behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import _work as work
import alamo
from alamo import Batch, WaitTimeout


def test_a_wait_that_is_given_up_leaves_no_waiter(tmp_path: Path) -> None:
    async def awaited(task: alamo.Task) -> Any:
        return await task

    with Batch(num_workers=1) as batch:
        slow = batch.function(work.wait_until, (tmp_path / "go").exists)
        slow.start()
        with pytest.raises(WaitTimeout):
            next(alamo.as_completed([slow], timeout=0.01))
        alamo.wait([slow], timeout=0.01)

        async def main() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(awaited(slow), 0.01)

        asyncio.run(main())
        assert slow.program is not None
        assert not slow.program._waiters
        (tmp_path / "go").touch()
        slow.wait(work.PATIENCE_S)
