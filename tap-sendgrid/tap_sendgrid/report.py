"""What a run did, collection by collection: told at its end, and in its exit code."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from tap_sendgrid.api.errors import SendGridError


class IncompleteSync(SendGridError):
    """A selected collection could not be read; the others were.

    The run ends with exit code 1: Segment's rule R45 has every collection tried and problems told
    per collection, and a scheduler only sees the exit code. Whoever does not want the collection
    deselects it.
    """


@dataclass
class SyncReport:
    """Counts and problems of one run.

    Attributes:
        records: Records emitted, by stream.
        empty: Why a collection has nothing to read, by stream: no fault.
        failed: What went wrong, by stream (with the subuser, where there are several).
    """

    records: dict[str, int] = field(default_factory=dict)
    empty: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def log(self, logger: logging.Logger) -> None:
        """Tell the run in a few lines.

        Raises:
            IncompleteSync: A selected collection could not be read.
        """
        done = {name: count for name, count in self.records.items() if count}
        if done:
            counts = ", ".join(f"{name} {count:,}" for name, count in done.items())
            logger.info("Synced: %s", counts)
        if zero := [name for name in self.records if name not in done and name not in self.failed]:
            logger.info("Zero data synced: %s", ", ".join(zero))
        for name, reason in self.empty.items():
            logger.info("Nothing to read in %s: %s", name, reason)
        if self.failed:
            for name, problem in self.failed.items():
                logger.warning("Not synced: %s: %s", name, problem)
            raise IncompleteSync(
                f"{len(self.failed)} selected collection(s) could not be read: "
                f"{', '.join(self.failed)}. Everything else was synced; see the lines "
                "'Not synced' above."
            )
