"""The .singer files of the SDK and of target-postgres, out of their wheels."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from .harness import Warehouse
from .messages import Message

SDK = "singer_sdk.testing.target_test_streams"
POSTGRES = "target_postgres.tests.data_files"


def singer(package: str, name: str) -> bytes:
    """The bytes of a .singer file of a wheel."""
    data = resources.files(package).joinpath(f"{name}.singer").read_bytes()
    return data if data.endswith(b"\n") else data + b"\n"


def messages(data: bytes, kind: str) -> list[Message]:
    return [m for m in map(json.loads, data.splitlines()) if m["type"] == kind]


class Loaded:
    """Several files loaded in one run, one after the other."""

    def __init__(self, warehouse: Warehouse, *files: tuple[str, str], **config: Any) -> None:
        self.warehouse = warehouse
        self.input = b"".join(singer(package, name) for package, name in files)
        self.result = warehouse.load(self.input, **config)
