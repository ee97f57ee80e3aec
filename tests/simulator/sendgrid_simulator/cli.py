"""The command ``sendgrid-simulator``: serve an account, or send webhook deliveries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sendgrid_simulator.messages import MessageBook
from sendgrid_simulator.mixing import disorder, drift, repeat
from sendgrid_simulator.options import Fault, SimulatorOptions
from sendgrid_simulator.sender import RetryPolicy, WebhookSender
from sendgrid_simulator.server import Simulator
from sendgrid_simulator.signing import new_private_key, public_key_text
from sendgrid_simulator.times import DAY, midnight


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sendgrid-simulator")
def main() -> None:
    """A SendGrid on localhost: its v3 API and its Event Webhook, with the documented traps."""


def _line(**members: Any) -> None:
    click.echo(json.dumps(members))
    sys.stdout.flush()


def load_key(path: Path | None, seed: int) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file, or the one that follows from the seed.

    Raises:
        click.BadParameter: The file holds no P-256 private key.
    """
    if path is None:
        return new_private_key(seed)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise click.BadParameter(f"{path} is not a private key in PEM form: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise click.BadParameter(f"{path} is not an elliptic curve key")
    return key


def setting(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` as the name of an option and its value; what is not JSON is text.

    Raises:
        click.BadParameter: There is no such option.
    """
    name, equals, value = text.partition("=")
    if not equals or name not in SimulatorOptions.__dataclass_fields__:
        names = ", ".join(sorted(SimulatorOptions.__dataclass_fields__))
        raise click.BadParameter(f"{text!r}: NAME=VALUE is needed, NAME one of {names}")
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = value
    if name == "faults":
        parsed = [Fault(**fault) for fault in parsed]
    return name, parsed


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--contacts", default=100, show_default=True, help="Number of contacts.")
@click.option("--lists", default=3, show_default=True, help="Number of lists.")
@click.option("--segments", default=2, show_default=True, help="Number of segments.")
@click.option("--campaigns", default=5, show_default=True, help="Number of single sends/campaigns.")
@click.option(
    "--messages",
    default=0,
    show_default=True,
    help="Messages in the account's history (/v3/logs): those of `send` with the same seed.",
)
@click.option(
    "--generation",
    type=click.Choice(["marketing", "legacy", "none"]),
    default="marketing",
    show_default=True,
    help="The account's marketing generation; the other one answers 403.",
)
@click.option(
    "--subuser", "subusers", multiple=True, help="User name of a subuser; may be repeated."
)
@click.option("--region", type=click.Choice(["global", "eu"]), default="global", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Everything follows from it.")
@click.option(
    "--set",
    "more",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other member of SimulatorOptions, its value as JSON, for instance export_polls=3 or "
    "rate_limits='{\"/v3/marketing\": [5, 2.0]}'; may be repeated. The README lists them.",
)
def serve(host: str, port: int, more: tuple[str, ...], **settings: Any) -> None:
    """Serve an account until SIGINT or SIGTERM.

    Prints one line of JSON when it answers: the URL, the API key, and the public key with which
    `send` with the same seed signs (also the first key of the account's first webhook).
    """
    settings |= dict(map(setting, more))
    simulator = Simulator(SimulatorOptions(**settings), host=host, port=port)
    _line(
        url=simulator.url,
        api_key=simulator.api_key,
        public_key=public_key_text(new_private_key(settings["seed"])),
        generation=settings["generation"],
        subusers=list(settings["subusers"]),
    )
    simulator.serve()


@main.command()
@click.option("--to", "url", required=True, metavar="URL", help="The receiver's URL.")
@click.option("--messages", default=100, show_default=True, help="Messages whose events are sent.")
@click.option("--seed", default=0, show_default=True, help="The events and the key follow from it.")
@click.option("--batch", default=100, show_default=True, help="The most events of a delivery.")
@click.option("--connections", default=4, show_default=True, help="Connections, all kept open.")
@click.option("--rate", type=float, help="The most events per second.")
@click.option(
    "--repeat-share", default=0.0, show_default=True, help="Share of the events that come twice."
)
@click.option("--drift", "odd_types", is_flag=True, help="Give a fifth of them other types.")
@click.option("--disorder/--no-disorder", "shuffle", help="Shuffle events within a window of 500.")
@click.option("--retry/--no-retry", help="Try again until a 2xx comes, at growing intervals.")
@click.option(
    "--retry-first", default=1.0, show_default=True, help="Seconds before the second attempt."
)
@click.option("--give-up", default=86400.0, show_default=True, help="Seconds of trying.")
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--new-ids-on-retry", is_flag=True, help="Draw engagement ids anew for a retry.")
@click.option("--start", type=int, help="Unix seconds of the first message (default: see --days).")
@click.option(
    "--days",
    default=7,
    show_default=True,
    help="Days over which the messages were sent, ending a day before midnight UTC of today.",
)
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with the P-256 private key that signs (default: follows from the seed).",
)
@click.option("--unsigned", is_flag=True, help="Send without signature headers.")
def send(url: str, **chosen: Any) -> None:
    """Send webhook deliveries, signed and framed as SendGrid's.

    Prints one line of JSON at the end: deliveries, events, acknowledged, retried, failed, and the
    answers by status. The exit code is 1 when a delivery was not acknowledged.
    """
    seed = chosen["seed"]
    days = chosen["days"]
    start = chosen["start"] or midnight() - (days + 1) * DAY
    book = MessageBook(chosen["messages"], seed, start, days * DAY)
    events: Iterator[dict[str, Any]] = (event for item in book for event in item.events)
    if chosen["odd_types"]:
        events = drift(events, seed)
    if chosen["shuffle"]:
        events = disorder(events, seed)
    if chosen["repeat_share"]:
        events = repeat(events, chosen["repeat_share"], seed)
    retry = None
    if chosen["retry"]:
        retry = RetryPolicy(
            first=chosen["retry_first"],
            give_up=chosen["give_up"],
            new_ids=chosen["new_ids_on_retry"],
        )
    sender = WebhookSender(
        url,
        None if chosen["unsigned"] else load_key(chosen["key_file"], seed),
        connections=chosen["connections"],
        retry=retry,
        rate=chosen["rate"],
        timeout=chosen["timeout"],
    )
    report = sender.send_events(events, chosen["batch"])
    _line(**report.as_dict())
    if report.failed:
        raise SystemExit(1)
