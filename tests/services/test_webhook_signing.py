"""Signatures are what the published protocol says, for receivers that check them with its own library."""

from __future__ import annotations

import base64
import time

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.services.webhook_signing import is_secret, new_secret, signed_headers
from tests.stores.webhook_samples import OTHER_SECRET, SECRET

BODY = b'{"test": 2432232314}'
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330.9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_not base64 at all, but long enough to be one",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + base64.b64encode(bytes(31)).decode().rstrip("="),
        SECRET + "\n",
    ],
)
def test_what_cannot_be_signed_with_is_no_secret(text: str) -> None:
    assert not is_secret(text)


def test_new_secrets_differ_and_can_be_signed_with() -> None:
    secrets = {new_secret() for _ in range(10)}
    assert len(secrets) == 10
    assert all(is_secret(secret) for secret in [*secrets, SECRET])


def test_the_published_example_is_reproduced() -> None:
    headers = signed_headers(MESSAGE, BODY, at=AT, signing_secrets=[SECRET])
    assert headers == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_either_of_two_live_secrets_verifies_and_a_third_does_not() -> None:
    headers = dict(signed_headers(MESSAGE, BODY, at=time.time(), signing_secrets=[SECRET, OTHER_SECRET]))
    assert headers["webhook-signature"].count("v1,") == 2
    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(BODY, headers) == {"test": 2432232314}
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_replay_after_five_minutes_is_refused_by_its_receiver(minutes: int) -> None:
    headers = dict(signed_headers(MESSAGE, BODY, at=time.time() + 60 * minutes, signing_secrets=[SECRET]))
    with pytest.raises(WebhookVerificationError, match="too"):
        Webhook(SECRET).verify(BODY, headers)
