"""What is written: the same document of about 200 bytes to every peer."""

import json
from typing import Final

DOCUMENT: Final[dict[str, object]] = {
    "amount_cents": 1299500,
    "at": "2026-11-23T13:35:31Z",
    "currency": "EUR",
    "from": "DE89370400440532013000",
    "note": "invoice 2026-11-0042, second instalment",
    "status": "booked",
    "to": "FR1420041010050500013M02606",
}
DOCUMENT_BYTES: Final = json.dumps(DOCUMENT, separators=(",", ":"), sort_keys=True).encode()


def key(number: int) -> str:
    return f"transfer-{number:08d}"
