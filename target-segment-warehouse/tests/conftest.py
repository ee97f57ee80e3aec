"""What several test files of the target share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import pytest
from target_segment_warehouse import pieces, pipeline, reader, rows


@pytest.fixture
def small_parts() -> Callable[[int], AbstractContextManager[None]]:
    """Batches are loaded in parts of so many bytes, and streams are known by their first record."""

    @contextmanager
    def cut(part_bytes: int) -> Iterator[None]:
        with (
            mock.patch.object(pipeline, "PART_BYTES", part_bytes),
            mock.patch.object(pipeline, "LEFT_BYTES", part_bytes // 2),
            mock.patch.object(reader, "CHUNK_BYTES", 200),
            mock.patch.object(rows, "HEAD", 1),
            mock.patch.object(pieces, "HEAD", 1),
        ):
            yield

    return cut
