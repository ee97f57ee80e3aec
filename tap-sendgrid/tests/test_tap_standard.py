"""The SDK's own standard tests, against the simulator and a log with an event of every type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sendgrid_simulator import Simulator, SimulatorOptions
from singer_sdk.testing import SuiteConfig, get_tap_test_class
from tap_sendgrid.event_log import Delivery, open_event_log
from tap_sendgrid.events.fields import EVENT_TYPES
from tap_sendgrid.tap import TapSendGrid

# The suite warns of properties that no record has: no log holds every field SendGrid defines.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Fields in transformed catalog but not in records"),
    pytest.mark.filterwarnings("ignore:No records were available to test"),
]

OPTIONS = SimulatorOptions(
    contacts=300, seed=4, segments=4, segments_v1=2, subusers=("sub",), messages=40
)
# The test class is built at import; the fixture fills its configuration in before a test runs.
CONFIG: dict[str, str] = {"event_log_url": "sqlite:///no-such-events.db"}


def _body() -> bytes:
    names = [event_type.word or "brand_new" for event_type in EVENT_TYPES]
    events = [
        {"event": name, "email": "a@example.com", "timestamp": 1700000000, "sg_event_id": f"e{n}"}
        for n, name in enumerate(names)
    ]
    return json.dumps(events).encode()


@pytest.fixture(scope="session", autouse=True)
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    url = f"sqlite:///{tmp_path_factory.mktemp('standard') / 'events.db'}"
    log = open_event_log(url)
    log.append([Delivery(_body(), datetime.now(UTC))])
    log.close()
    with Simulator(OPTIONS) as simulator:
        CONFIG.update(api_key=simulator.api_key, api_url=simulator.url, event_log_url=url)
        yield


def _everything() -> dict[str, Any]:
    """The catalog with every stream selected, those that are off by default too."""
    catalog = TapSendGrid(config={}).catalog_dict
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = True
    return catalog


TestTapSendGrid = get_tap_test_class(
    TapSendGrid,
    config=CONFIG,
    suite_config=SuiteConfig(max_records_limit=50),
    catalog=_everything(),
)
