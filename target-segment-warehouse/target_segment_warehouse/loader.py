"""Loads batches: everything that a batch holds, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from target_segment_warehouse.activity import refresh_view
from target_segment_warehouse.batch import Batch, Rows
from target_segment_warehouse.catalog import Catalog
from target_segment_warehouse.profile import profile
from target_segment_warehouse.rows import load_rows
from target_segment_warehouse.warehouses.base import Warehouse
from target_segment_warehouse.workbench import Workbench

logger = logging.getLogger(__name__)

OpenWarehouse = Callable[[Workbench], Warehouse]


class BatchLoader:
    """Loads batches into a warehouse.

    Args:
        open_warehouse: Opens the warehouse on a workbench; called once, when first needed.
        activity: ``view``, ``table`` or ``off``.
    """

    def __init__(self, open_warehouse: OpenWarehouse, activity: str) -> None:
        self._open_warehouse = open_warehouse
        self._activity = activity
        self._warehouse: Warehouse | None = None

    def load(self, batch: Batch) -> None:
        """Load a batch; when this returns it is committed, when it raises nothing of it is."""
        if not batch.segments:
            return
        if self._warehouse is None:
            self._warehouse = self._open_warehouse(Workbench())
        warehouse = self._warehouse
        now = datetime.now(UTC)
        try:
            warehouse.begin()
            catalog = Catalog(warehouse)
            for segment in batch.segments:
                table = catalog.table(segment.stream)
                if isinstance(segment, Rows):
                    arrow = segment.to_arrow()
                    warehouse.workbench.register("__raw", arrow)
                    found = profile(warehouse.workbench, "__raw")
                    load_rows(warehouse, segment.stream, table, "__raw", found, now)
                    warehouse.workbench.unregister("__raw")
            catalog.save()
            if self._activity == "view":
                refresh_view(warehouse, catalog)
            warehouse.commit()
        except BaseException:
            warehouse.rollback()
            raise

    def close(self, failure: BaseException | None = None) -> None:
        """Let go of the warehouse."""
        if self._warehouse is not None:
            self._warehouse.close()
