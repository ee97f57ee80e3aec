"""The main job, end to end: SendGrid → receiver → event log → tap → target → warehouse."""

from __future__ import annotations

import json
from collections import Counter

from pipeline import Pipeline
from sendgrid_simulator import RetryPolicy

EVENT_TABLES = [
    "processed",
    "dropped",
    "delivered",
    "deferred",
    "bounce",
    "_open",
    "click",
    "spam_report",
    "unsubscribe",
    "group_unsubscribe",
    "group_resubscribe",
    "account_status_change",
]
OBJECTS = ("lists", "segments", "recipients", "campaigns")
TABLE_OF = {"open": "_open", "spamreport": "spam_report"}
SYNC_OBJECTS = ("run", "sync-objects")
FLUSH_EVENTS = ("run", "flush-events")


def sent_events(pipeline: Pipeline) -> list[dict]:
    """Every event of the account's history."""
    return [e for message in pipeline.simulator.account.messages for e in message.events]


def counts(pipeline: Pipeline) -> dict[str, int]:
    """Rows of every collection."""
    names = pipeline.tables() & {*EVENT_TABLES, *OBJECTS, "activity", "other_event"}
    return {name: pipeline.count(name) for name in names}


def assert_activity_is_the_union(pipeline: Pipeline) -> None:
    """EXCEPT is empty both ways, and no table has a column that activity lacks."""
    tables = pipeline.tables() & {*EVENT_TABLES, "other_event"}
    assert tables
    shared = None
    for table in sorted(tables):
        names = ", ".join(f'"{c}"' for c in sorted(pipeline.columns(table)))
        of_table = f'SELECT {names} FROM sendgrid."{table}"'
        assert pipeline.query(f"{of_table} EXCEPT SELECT {names} FROM sendgrid.activity") == []
        columns = set(pipeline.columns(table))
        assert columns <= set(pipeline.columns("activity"))
        shared = columns if shared is None else shared & columns
    names = ", ".join(f'"{c}"' for c in sorted(shared or ()))
    union = " UNION ALL ".join(f'SELECT {names} FROM sendgrid."{t}"' for t in sorted(tables))
    assert pipeline.query(f"SELECT {names} FROM sendgrid.activity EXCEPT ({union})") == []
    assert pipeline.count("activity") == sum(pipeline.count(t) for t in tables)


def test_everything_arrives_once_and_follows_its_source(pipeline: Pipeline) -> None:
    simulator = pipeline.simulator
    pipeline.start_receiver()
    (report,) = simulator.deliver(retry=RetryPolicy(first=0.1))
    assert report.failed == 0
    pipeline.meltano(*SYNC_OBJECTS)
    pipeline.meltano(*FLUSH_EVENTS)

    sent = sent_events(pipeline)
    expected = Counter(TABLE_OF.get(e["event"], e["event"]) for e in sent)
    first = counts(pipeline)
    assert {t: first.get(t, 0) for t in EVENT_TABLES} == {t: expected[t] for t in EVENT_TABLES}
    assert min(first[t] for t in EVENT_TABLES[:9]) > 0
    assert first["activity"] == len(sent)
    assert first["recipients"] == simulator.options.contacts
    assert first["lists"] == len(simulator.account.lists)
    assert first["segments"] == len(simulator.account.segments)
    assert first["campaigns"] == len(simulator.account.campaigns)
    assert_activity_is_the_union(pipeline)

    # Nothing new: nothing changes. A repeated delivery adds nothing; a count that grew is shown.
    simulator.deliver(retry=RetryPolicy(first=0.1))
    changed = simulator.account.lists[0]
    changed.contact_count = 200
    pipeline.meltano(*SYNC_OBJECTS)
    pipeline.meltano(*FLUSH_EVENTS)
    assert counts(pipeline) == first
    ((shown,),) = pipeline.query(
        f"SELECT recipient_count FROM sendgrid.lists WHERE id = '{changed.id}'"
    )
    assert shown == 200

    # A new custom argument is a new column, in its table and in activity.
    click = next(e for e in sent if e["event"] == "click")
    news = click | {"sg_event_id": "fresh-click", "couponCode": "SPRING"}
    simulator.deliver([news], retry=RetryPolicy(first=0.1))
    pipeline.meltano(*FLUSH_EVENTS)
    for table in ("click", "activity"):
        assert pipeline.query(
            f"SELECT coupon_code FROM sendgrid.{table} WHERE id = 'fresh-click'"
        ) == [("SPRING",)]
    assert pipeline.count("click") == first["click"] + 1
    assert_activity_is_the_union(pipeline)

    # One report row per run and collection.
    assert pipeline.count("sync_reports") > 0


def test_fields_arrive_under_segments_column_names(pipeline: Pipeline) -> None:
    """Each under the name, and with the type, that Segment's tables have it."""
    pipeline.start_receiver()
    pipeline.simulator.deliver(retry=RetryPolicy(first=0.1))
    pipeline.meltano(*FLUSH_EVENTS)
    text = ("VARCHAR", "text")
    integer = ("BIGINT", "bigint")
    instant = ("TIMESTAMP WITH TIME ZONE", "timestamp with time zone")
    expected = {
        "processed": {
            "id": text,
            "received_at": instant,
            "uuid_ts": instant,
            "timestamp": integer,
            "occurred_at": instant,
            "event": text,
            "email": text,
            "smtp_id": text,
            "sg_event_id": text,
            "sg_message_id": text,
            "category": text,
        },
        "deferred": {"attempt": text, "response": text, "tls": integer, "ip": text},
        "bounce": {"reason": text, "status": text, "type": text},
        "_open": {"useragent": text, "ip": text},
        "click": {"url": text, "url_offset_index": integer, "url_offset_type": text},
        "group_unsubscribe": {"asm_group_id": integer},
        "account_status_change": {"type": text},
    }
    for table, columns in expected.items():
        found = pipeline.columns(table)
        assert {c: found.get(c) in types for c, types in columns.items()} == dict.fromkeys(
            columns, True
        ), (table, found)


def test_what_is_deselected_stays_out(pipeline: Pipeline) -> None:
    pipeline.start_receiver()
    pipeline.simulator.deliver(retry=RetryPolicy(first=0.1))
    pipeline.meltano(
        "run",
        "tap-sendgrid",
        "target-segment-warehouse",
        TAP_SENDGRID__SELECT='["lists.*", "!lists.name", "click.*", "!click.email"]',
    )
    assert pipeline.tables() & {*OBJECTS, *EVENT_TABLES} == {"lists", "click"}
    assert "name" not in pipeline.columns("lists")
    assert "email" not in pipeline.columns("click")
    assert pipeline.count("lists") == len(pipeline.simulator.account.lists)
    assert pipeline.count("click") > 0


def test_events_pass_in_files(pipeline: Pipeline) -> None:
    """As docs/events.md says, for millions of events at once."""
    pipeline.start_receiver()
    pipeline.simulator.deliver(retry=RetryPolicy(first=0.1))
    folder = pipeline.folder / "files"
    files = {
        "encoding": {"format": "jsonl", "compression": "none"},
        "storage": {"root": folder.as_uri()},
    }
    setting = ("tap-sendgrid-events", "batch_config", json.dumps(files))
    pipeline.meltano("config", "set", *setting)
    pipeline.meltano(*FLUSH_EVENTS, TARGET_SEGMENT_WAREHOUSE_CLEAN_UP_BATCH_FILES="true")
    assert folder.exists()
    assert list(folder.iterdir()) == []
    sent = Counter(TABLE_OF.get(e["event"], e["event"]) for e in sent_events(pipeline))
    loaded = counts(pipeline)
    assert loaded.pop("activity") == sent.total()
    assert loaded.pop("other_event", 0) == 0
    assert loaded == dict(sent)
    assert_activity_is_the_union(pipeline)
