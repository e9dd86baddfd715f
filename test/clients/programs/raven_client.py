# The client that Sentry had for Python before 2019: python raven_client.py <dsn>
import sys

from raven import Client
from raven.transport.http import HTTPTransport

client = Client(
    sys.argv[1],
    release="shop-worker@1.4.2",
    environment="staging",
    name="worker-01.example.com",
    tags={"region": "eu-west-1"},
    transport=HTTPTransport,
    install_sys_hook=False,
)


def checkout(number):
    basket = ["tea", "Käse 🧀"]
    raise ValueError(f"checkout failed for order {number}, {len(basket)} items")


client.user_context({"id": 77, "email": "alice@example.com", "username": "alice"})
client.context.merge({"extra": {"total": 19.99}})
client.captureBreadcrumb(category="cart", message="cart opened", level="info", data={"items": 2})
try:
    checkout(987)
except ValueError:
    client.captureException(tags={"attempt": 3})
client.captureMessage("Payments are slow", level="warning")
if client.state.did_fail():
    sys.exit("the server was not reached")
