"""The console script ``tap-sendgrid``, also as ``python -m tap_sendgrid``."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line.

    Python looks for garbage again and again while modules are imported, and once more at the end.
    There is none: what imports make stays. It would be a third of the time of a short run, and
    Meltano makes two of each sync.
    """
    gc.disable()
    from tap_sendgrid.tap import TapSendGrid

    gc.freeze()
    gc.enable()
    TapSendGrid.cli(prog_name="tap-sendgrid")


if __name__ == "__main__":
    main()
