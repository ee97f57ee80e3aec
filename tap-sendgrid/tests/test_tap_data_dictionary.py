"""The data dictionary in docs/ is what the schemas say, and leaves nothing out."""

from __future__ import annotations

from pathlib import Path

from tap_sendgrid.data_dictionary import data_dictionary
from tap_sendgrid.tap import TapSendGrid

DOCUMENT = Path(__file__).parents[2] / "docs" / "data-dictionary.md"


def test_it_is_not_stale() -> None:
    assert DOCUMENT.read_text("utf-8") == data_dictionary(), (
        "run: python -m tap_sendgrid.data_dictionary > docs/data-dictionary.md"
    )


def test_it_names_every_stream_and_property() -> None:
    text = data_dictionary()
    config = {"recipient_memberships": True}
    for name, stream in TapSendGrid(config=config).streams.items():
        assert f"### {name}\n" in text or f"| `{name}` |" in text
        for prop in stream.schema["properties"]:
            assert f"| `{prop}` |" in text, (name, prop)
