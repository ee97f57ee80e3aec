"""The console script ``target-segment-warehouse``, also as ``python -m target_segment_warehouse``.

Python looks for garbage again and again while modules are imported, and at the end of the process.
There is none: what imports make stays. Of a run over a few rows that would be a third of the time.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process without taking it apart first.

    Args:
        args: The arguments; those of the process if None.
    """
    gc.disable()
    from target_segment_warehouse.target import TargetSegmentWarehouse

    gc.freeze()
    gc.enable()
    code: object = 0
    try:
        TargetSegmentWarehouse.cli(args=args, prog_name="target-segment-warehouse")
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # noqa: BLE001 (told of as Python would)
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)  # noqa: T201
    logging.shutdown()
    status = code if isinstance(code, int) else int(code is not None)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    os._exit(status)


if __name__ == "__main__":
    main()
