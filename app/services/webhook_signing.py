"""Signatures of webhooks: Standard Webhooks, version 1.0.0, symmetric (`v1`).

A secret is `whsec_` and the base64 of 24 to 64 random bytes. What is signed is `<id>.<timestamp>.<body>`,
by HMAC-SHA256; with two live secrets there are two signatures, one of which a receiver has to find.
Receivers refuse timestamps that are more than five minutes off, so an attempt is signed when it is sent.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import Webhook

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
SHORTEST_BYTES: Final = 24
LONGEST_BYTES: Final = 64
FORM: Final = r"^whsec_[A-Za-z0-9+/]{32,86}={0,2}$"
SECRET_RULE: Final = (
    f"use {PREFIX} and the base64 of {SHORTEST_BYTES} to {LONGEST_BYTES} random bytes, "
    "such as from: openssl rand -base64 32"
)
_SECRET: Final = re.compile(FORM)


def new_secret() -> str:
    """A secret of 256 random bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Whether it can be signed with."""
    if not _SECRET.fullmatch(text):
        return False
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return False
    return SHORTEST_BYTES <= len(key) <= LONGEST_BYTES


def signed_headers(
    message_id: str, body: bytes, *, at: float, signing_secrets: Sequence[str]
) -> Mapping[str, str]:
    """The three headers of one attempt, sent at that time (epoch seconds), with a signature a secret."""
    moment = datetime.fromtimestamp(int(at), UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(message_id, moment, text) for secret in signing_secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(signatures),
    }
