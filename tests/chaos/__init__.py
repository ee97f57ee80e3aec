"""The whole product as processes under load, while a harness breaks everything that can break.

`make chaos`, or ``PYTHONPATH=tests python -m chaos --help``. What it has shown stands in
``docs/reliability.md``.
"""
