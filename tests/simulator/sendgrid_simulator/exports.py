"""Contact exports: asynchronous jobs, presigned download links, and the files themselves.

Source: official spec mc_contacts, sendgrid-csharp#1024 (NDJSON), a connector's recorded CSV, and
airbyte#35501 (bodies that are gzip or not, whatever the link's name says).
"""

from __future__ import annotations

import hashlib
import hmac
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse

from sendgrid_simulator.exportfile import Snapshot, csv_rows, json_rows, mean_row_bytes
from sendgrid_simulator.http import (
    ApiError,
    Area,
    Call,
    forbidden,
    ids_in,
    json_response,
    not_found,
    paged,
)
from sendgrid_simulator.times import DAY, iso, iso_fraction

if TYPE_CHECKING:
    from sendgrid_simulator.account import Account, ContactList, Segment

area = Area("marketing.read", family="marketing", eu=False)
legacy_area = Area("marketing_campaigns.read", family="legacy", eu=False)
_PATHS = {"marketing": "/v3/marketing/contacts/exports", "legacy": "/v3/contactdb/exports"}
_SECRET = b"sendgrid-simulator"
_CHUNK_ROWS = 2000


@dataclass
class ExportJob:
    """One export. It is pending for ``polls`` more polls, then ready or a failure."""

    id: str
    created_at: int
    file_type: str
    polls: int
    max_file_size: int
    list_ids: list[str] = field(default_factory=list)
    segment_ids: list[str] = field(default_factory=list)
    failure: str = ""
    status: str = "pending"
    completed_at: int = 0
    snapshot: Snapshot | None = None
    rows_per_file: int = 1

    @property
    def files(self) -> int:
        """Number of files; an export of nothing is one empty file."""
        rows = len(self.snapshot.indexes) if self.snapshot else 0
        return max(1, -(-rows // self.rows_per_file))


def advance(account: Account, job: ExportJob) -> None:
    """One poll: what is pending comes nearer to its end. The contacts are those of that moment."""
    if job.status != "pending":
        return
    if job.polls > 0:
        job.polls -= 1
        return
    job.completed_at = int(time.time())
    if job.failure:
        job.status = "failure"
        return
    options = account.options
    job.snapshot = Snapshot.take(account.contacts, job.list_ids, job.segment_ids)
    job.snapshot.clock = iso_fraction if options.fractional_times else iso
    job.rows_per_file = options.export_rows_per_file or max(
        1, job.max_file_size * 1_000_000 // mean_row_bytes(job.snapshot, job.file_type)
    )
    job.status = "ready"


@area.on("POST", _PATHS["marketing"])
@legacy_area.on("POST", _PATHS["legacy"])
def start(call: Call) -> Response:
    """Starts an export; an empty body asks for all contacts as CSV."""
    body = call.json_object()
    file_type = body.get("file_type", "csv")
    if file_type not in ("csv", "json"):
        raise ApiError(400, "file_type must be csv or json", {"field": "file_type"})
    size = body.get("max_file_size", 5000)
    if not isinstance(size, int) or size < 1:
        raise ApiError(400, "max_file_size must be a positive integer", {"field": "max_file_size"})
    account = _upgraded(call)
    lists = _chosen(account, account.lists, ids_in(body, "list_ids"))
    segments = _chosen(account, account.segments, ids_in(body, "segment_ids"))
    options = account.options
    failure = ""
    if options.export_failures > 0:
        options.export_failures -= 1
        failure = "the export could not be completed, please try again"
    job = ExportJob(
        account.uuid("export", len(account.exports)),
        int(time.time()),
        file_type,
        options.export_polls,
        size,
        lists,
        segments,
        failure,
    )
    account.exports[job.id] = job
    return json_response({"id": job.id, "_metadata": {"self": _self(call, job)}}, 202)


def _upgraded(call: Call) -> Account:
    """The account; 403 when it is a legacy one without the upgrade of 2025."""
    if call.account.generation == "legacy" and not call.account.options.legacy_exports:
        raise forbidden()
    return call.account


def _shown(account: Account, item: ContactList | Segment) -> str | int:
    """The id that clients know: a number in the legacy generation."""
    return item.number if account.generation == "legacy" else item.id


def _chosen(
    account: Account, items: Sequence[ContactList | Segment], wanted: list[str | int]
) -> list[str]:
    """The ids of the wanted lists or segments."""
    known = {_shown(account, item): item.id for item in items}
    if unknown := [key for key in wanted if key not in known]:
        raise ApiError(404, f"id does not exist: {unknown[0]}", {"field": "list_ids"})
    return [known[key] for key in wanted]


def _self(call: Call, job: ExportJob) -> str:
    return f"{call.base_url}{_PATHS[call.account.generation]}/{job.id}"


@area.on("GET", _PATHS["marketing"])
@legacy_area.on("GET", _PATHS["legacy"])
def jobs(call: Call) -> Response:
    """Exports in flight or recently finished. Note the capital ID and Name of SendGrid."""
    account = _upgraded(call)
    rows: list[dict[str, Any]] = []
    for job in reversed(account.exports.values()):
        chosen = "list_export" if job.list_ids else "segment_export"
        kind = chosen if job.list_ids or job.segment_ids else "contacts_export"
        row: dict[str, Any] = {
            "id": job.id,
            "status": job.status,
            "created_at": iso(job.created_at),
            "expires_at": iso(job.created_at + 3 * DAY),
            "user_id": str(account.user_id),
            "export_type": kind,
            "lists": _named(account, account.lists, job.list_ids),
            "segments": _named(account, account.segments, job.segment_ids),
            "_metadata": {"self": _self(call, job)},
        }
        if job.status != "pending":
            row["completed_at"] = iso(job.completed_at)
        if job.status == "ready":
            row["urls"] = _links(call, job)
        rows.append(row)
    metadata = {"self": f"{call.base_url}{_PATHS[account.generation]}"}
    return paged(call, rows, metadata)


def _named(
    account: Account, items: Sequence[ContactList | Segment], ids: list[str]
) -> list[dict[str, Any]]:
    return [{"ID": _shown(account, x), "Name": x.name} for x in items if x.id in ids]


@area.on("GET", _PATHS["marketing"] + "/{id}")
@legacy_area.on("GET", _PATHS["legacy"] + "/{id}")
def one(call: Call) -> Response:
    """The state of an export; when it is ready, with freshly signed links."""
    job = _upgraded(call).exports.get(call.param("id"))
    if job is None:
        raise not_found()
    advance(call.account, job)
    body: dict[str, Any] = {
        "id": job.id,
        "status": job.status,
        "created_at": iso(job.created_at),
        "updated_at": iso(job.completed_at or job.created_at),
        "expires_at": iso(job.created_at + 3 * DAY),
        "_metadata": {"self": _self(call, job)},
    }
    if job.status != "pending":
        body["completed_at"] = iso(job.completed_at)
    if job.status == "failure":
        body["message"] = job.failure
    if job.snapshot is not None:
        count = "recipient_count" if call.account.generation == "legacy" else "contact_count"
        body |= {"urls": _links(call, job), count: len(job.snapshot.indexes)}
    return json_response(body)


# -- the download host ---------------------------------------------------------------------------


def _sign(path: str, expires: str) -> str:
    return hmac.new(_SECRET, f"{path} {expires}".encode(), hashlib.sha256).hexdigest()


def _links(call: Call, job: ExportJob) -> list[str]:
    # The names end in .gzip whatever the bodies are, as the real ones do.
    ending = "csv.gzip" if job.file_type == "csv" else "json.gzip"
    urls = []
    for number in range(job.files):
        path = f"/downloads/{job.id}/{number}.{ending}"
        expires = f"{time.time() + call.account.options.link_seconds:.3f}"
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires={expires}"
        urls.append(f"{call.base_url}{path}?{query}&X-Amz-Signature={_sign(path, expires)}")
    return urls


def _xml(status: int, code: str, message: str) -> Response:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
    return Response(text, status, media_type="application/xml")


download_area = Area()


@download_area.on("GET", "/downloads/{id}/{name}")
def download(call: Call) -> Response:
    """One file of an export, from a host that is not SendGrid's API (S3)."""
    if "authorization" in call.request.headers:
        return _xml(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
            "Signature query string parameter or the Authorization header should be specified",
        )
    path, expires = call.request.url.path, call.query("X-Amz-Expires", "0")
    if not hmac.compare_digest(call.query("X-Amz-Signature"), _sign(path, expires)):
        return _xml(403, "SignatureDoesNotMatch", "The request signature does not match")
    if time.time() > float(expires):
        return _xml(403, "AccessDenied", "Request has expired")
    jobs = {key: job for a in call.simulator.accounts for key, job in a.exports.items()}
    job = jobs.get(call.param("id"))
    number = int(call.param("name").partition(".")[0])
    if job is None or job.snapshot is None:
        return _xml(404, "NoSuchKey", "The specified key does not exist.")
    encoding = call.account.options.export_encoding
    packed = encoding == "gzip" or (encoding == "alternate" and number % 2 == 0)
    first = number * job.rows_per_file
    indexes = job.snapshot.indexes[first : first + job.rows_per_file]
    rows = json_rows if job.file_type == "json" else csv_rows
    body = rows(job.snapshot, indexes, _CHUNK_ROWS)
    return StreamingResponse(_gzip(body) if packed else body, media_type="application/octet-stream")


def _gzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()
