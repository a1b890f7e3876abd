"""Sends a shopper's events with RudderStack's Python library: rudder_shopper.py API WRITE_KEY"""

import sys
from datetime import datetime, timezone

import rudderstack.analytics as analytics

failures = []
analytics.dataPlaneUrl = sys.argv[1]
analytics.write_key = sys.argv[2]
analytics.gzip = True
analytics.on_error = lambda error, items: failures.append(error)

TEA = {"product_id": "tea", "price": 4.5}
analytics.track(anonymous_id="visitor", event="Product Viewed", properties=TEA, timestamp=datetime.now(timezone.utc))
analytics.track("eve", "Products Searched", {"query": "tea"}, context={"sessionId": "s-eve"})
analytics.page("eve", "Shop", "Home")
analytics.track("eve", "Product Added", {**TEA, "quantity": 2})
analytics.track("eve", "Order Completed", {"order_id": "1", "products": [TEA, {"product_id": "cup", "price": 3}]})
analytics.group("eve", "tea drinkers")
analytics.track("eve", "Moon Landed", {})
analytics.identify("eve", {"plan": "free"}, anonymous_id="visitor")
analytics.shutdown()
if failures:
    sys.exit(f"rejected: {failures}")
