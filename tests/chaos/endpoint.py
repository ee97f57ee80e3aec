"""Somebody's own webhook endpoint, to which receivers forward; ill at times, and killed by others.

A delivery is taken once its line is in the file: whether it came as SendGrid had sent it, and the
SHA-256 of its body. The endpoint answers after that.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import http.server
import os
import random
import time
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sendgrid_simulator.signing import DELIVERY_HEADERS, SIGNATURE_HEADER, TIMESTAMP_HEADER

ILL_EVERY, ILL_SECONDS = 6.0, 1.5
ILL_SHARE = 0.5
ANSWERS = (500, 502, 503, 429, 0, 1)
"""While it is ill; 0: the connection ends, 1: it ends though the delivery was taken."""


class Endpoint(http.server.ThreadingHTTPServer):
    """The endpoint.

    Args:
        port: Where it listens.
        public_key: What deliveries must be signed with, as SendGrid shows it.
        taken: The file of what was taken.
        calm: While this file exists, it is never ill.
        seed: What its illnesses follow from.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, public_key: str, taken: Path, calm: Path, seed: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        key = serialization.load_der_public_key(base64.b64decode(public_key))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self._key = key
        self._taken = os.open(taken, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._calm = calm
        self._rng = random.Random(seed)

    def answer(self, body: bytes, headers: Any) -> int:
        """Take a delivery, or not; the status to answer with, 0 for none."""
        ill = time.time() % ILL_EVERY < ILL_SECONDS and not self._calm.exists()
        status = self._rng.choice(ANSWERS) if ill and self._rng.random() < ILL_SHARE else 204
        if status in {1, 204}:
            word = "whole" if self._is_whole(body, headers) else "spoiled"
            os.write(self._taken, f"{word} {hashlib.sha256(body).hexdigest()}\n".encode())
        return 0 if status == 1 else status

    def _is_whole(self, body: bytes, headers: Any) -> bool:
        """Whether body, signature and the other headers are those that SendGrid sent."""
        try:
            signature = base64.b64decode(headers.get(SIGNATURE_HEADER, ""))
            signed = headers.get(TIMESTAMP_HEADER, "").encode() + body
            self._key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error):
            return False
        return all(headers.get(name) == DELIVERY_HEADERS[name] for name in DELIVERY_HEADERS)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answer(body, self.headers)
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the file tells."""


def main() -> None:
    """Listen until killed."""
    parser = argparse.ArgumentParser(prog="chaos.endpoint", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--public-key", required=True)
    parser.add_argument("--taken", type=Path, required=True)
    parser.add_argument("--calm", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with Endpoint(given.port, given.public_key, given.taken, given.calm, given.seed) as endpoint:
        endpoint.serve_forever()


if __name__ == "__main__":
    main()
