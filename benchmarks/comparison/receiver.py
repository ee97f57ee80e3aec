"""What people write today: FastAPI, SQLAlchemy and Postgres, one row per event.

Written for the comparison in bench_receiver.py, as its documentation would have it: the signature
is checked over the raw body, the rows go in with one bulk insert and one commit per delivery.
"""

from __future__ import annotations

import base64
import json
import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import JSON, BigInteger, Column, MetaData, String, Table, create_engine, insert

KEY = serialization.load_der_public_key(base64.b64decode(os.environ["PUBLIC_KEY"]))
engine = create_engine(os.environ["DATABASE_URL"], pool_size=20)
metadata = MetaData()
events = Table(
    "events",
    metadata,
    Column("row_id", BigInteger, primary_key=True, autoincrement=True),
    Column("sg_event_id", String, index=True),
    Column("event", String),
    Column("email", String),
    Column("timestamp", BigInteger),
    Column("payload", JSON),
)
metadata.create_all(engine)
app = FastAPI()


def store(rows: list[dict]) -> None:
    with engine.begin() as connection:
        connection.execute(insert(events), rows)


@app.post("/webhook", status_code=204)
async def webhook(request: Request) -> None:
    body = await request.body()
    signature = request.headers.get("x-twilio-email-event-webhook-signature", "")
    timestamp = request.headers.get("x-twilio-email-event-webhook-timestamp", "")
    try:
        KEY.verify(
            base64.b64decode(signature), timestamp.encode() + body, ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature:
        raise HTTPException(401) from None
    rows = [
        {
            "sg_event_id": event.get("sg_event_id"),
            "event": event.get("event"),
            "email": event.get("email"),
            "timestamp": event.get("timestamp"),
            "payload": event,
        }
        for event in json.loads(body)
    ]
    await run_in_threadpool(store, rows)
