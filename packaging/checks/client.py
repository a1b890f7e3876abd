"""A check of the installed Python client against the daemon at SEQUOR_URL."""

import os

import sequor
from sequor import Event, RetryPolicy, SequorClient, SequorError

assert "site-packages" in sequor.__file__, sequor.__file__
# On a slow machine, a list that waits for its events gets several 503.
retry = RetryPolicy(attempts=100, max_delay=1.0)
with SequorClient(os.environ["SEQUOR_URL"], retry=retry) as client:
    receipt = client.send_events(
        [Event("python-check", "view", "kettle"), Event("python-check", "cart", "cup")]
    )
    receipt.raise_if_rejected()
    recommendations = client.recommendations("python-check", limit=5, after=receipt)
    assert len(recommendations.item_ids) == 5, recommendations
    try:
        client.recommendations("python-check", limit=0)
        raise AssertionError("a limit of 0 was accepted")
    except SequorError as error:
        assert error.field == "limit", error
