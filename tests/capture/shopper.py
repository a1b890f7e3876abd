"""Sends a shopper's events with Segment's Python library: shopper.py API"""

import sys
from datetime import datetime, timezone

import segment.analytics as analytics

failures = []
analytics.write_key = "any"
analytics.host = sys.argv[1]
analytics.gzip = True
analytics.on_error = lambda error, items: failures.append(error)

TEA = {"product_id": "tea", "price": 4.5}
for user in ("ann", "bob", "cyd"):
    analytics.track(user, "Product Viewed", TEA, context={"sessionId": "s-" + user}, timestamp=datetime.now(timezone.utc))
    analytics.track(user, "Product Viewed", {"sku": "teapot"})
    analytics.track(user, "Product Viewed", {"id": "cup"})
analytics.track("eve", "Products Searched", {"query": "tea"})
analytics.page("eve", "Shop", "Home")
analytics.track("eve", "Product Clicked", TEA)
analytics.track("eve", "Product Added", TEA)
analytics.track("eve", "Order Completed", {"order_id": "1", "products": [{**TEA, "quantity": 2}, {"product_id": "cup", "price": 3}]})
analytics.track("eve", "Product Reviewed", {"product_id": "tea", "rating": 5})
analytics.group("eve", "tea drinkers")
analytics.track("eve", "Moon Landed", {})
analytics.shutdown()
if failures:
    sys.exit(f"rejected: {failures}")
