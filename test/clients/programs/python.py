# One story told with sentry-sdk of any version: python python.py <dsn>
import sys

import sentry_sdk

sentry_sdk.init(
    dsn=sys.argv[1],
    release="shop-worker@1.4.2",
    environment="staging",
    dist="77",
    server_name="worker-01.example.com",
    traces_sample_rate=1.0,
)

scope = sentry_sdk.get_isolation_scope() if hasattr(sentry_sdk, "get_isolation_scope") else sentry_sdk.Hub.current.scope


class PaymentError(Exception):
    pass


def load_cart(number):
    try:
        return {}["cart"]
    except KeyError as error:
        raise ValueError(f"could not load cart {number}") from error


def checkout(number):
    basket = ["tea", "Käse 🧀"]
    try:
        return load_cart(number)
    except ValueError:
        raise PaymentError(f"checkout failed for order {number}, {len(basket)} items")


sentry_sdk.set_user({"id": 77, "email": "alice@example.com", "username": "alice", "ip_address": "203.0.113.7"})
sentry_sdk.set_tag("region", "eu-west-1")
sentry_sdk.set_tag("attempt", 3)
sentry_sdk.set_context("order", {"id": "ord_987", "amount": 1999, "currency": "EUR"})
sentry_sdk.set_extra("cart", {"items": ["tea", "Käse 🧀"], "total": 19.99})
sentry_sdk.add_breadcrumb(category="cart", message="cart opened", level="info", data={"items": 2})
scope.add_attachment(bytes=b'{"id":987}', filename="cart.json")

tracker = scope if hasattr(scope, "start_session") else sentry_sdk.Hub.current
tracker.start_session(session_mode="application")
with sentry_sdk.start_transaction(name="charge", op="task"):
    try:
        checkout(987)
    except PaymentError as error:
        sentry_sdk.capture_exception(error)
scope.clear_breadcrumbs()
sentry_sdk.capture_message("Payments are slow", "warning")
tracker.end_session()
sentry_sdk.flush(10)
