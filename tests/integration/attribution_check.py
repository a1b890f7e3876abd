"""Computes an attribution report from the journal and compares it with the daemon's report.

    attribution_check.py JOURNAL REPORT

JOURNAL is the output of `GET /admin/journal`, REPORT the JSON of `GET /v1/reports/attribution`. The program follows the
definitions in docs/attribution.md by searching through all shown items for every event. It exits with 1 and prints the
differences if the reports differ.
"""

import json
import math
import sys
from datetime import datetime, timezone

Z = 1.959964
NONE, TOTAL = "(none)", "(total)"


def milliseconds(text):
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def groups(shown, by):
    if by == "day":
        return [datetime.fromtimestamp(shown["at"] / 1000, timezone.utc).strftime("%Y-%m-%d")]
    if by in ("placement", "variant"):
        return [shown["list"].get(by, NONE)]
    if by == "source":
        is_reported = "request_digest" not in shown["list"] and any("position" in item for item in shown["list"]["items"])
        return [NONE if is_reported else shown["item"]["source"]]
    return shown["item"].get("rules") or [NONE]


def attribute(entries, report):
    """Yields each counted thing with its shown item: ("impressions" | "clicks" | "conversions", shown, event)."""
    shown_items = []
    click_window, conversion_window = report["click_window_seconds"] * 1000, report["conversion_window_seconds"] * 1000
    for entry in entries:
        kind = entry["entry"]
        if kind == "impression":
            for item in entry["items"]:
                key = (entry["user_id"], entry["recommendation_id"], item["item_id"])
                if all(key != (shown["user"], *shown["key"]) for shown in shown_items):
                    shown = {"user": key[0], "key": key[1:], "at": entry["timestamp"], "item": item, "list": entry, "clicked": False}
                    shown_items.append(shown)
                    yield "impressions", shown, None
        elif kind == "merge":
            for shown in shown_items:
                if shown["user"] == entry["from"]:
                    shown["user"] = entry["into"]
        elif kind == "event" and "consent" not in entry and "item_id" in entry and entry.get("value", 0) >= 0:
            is_conversion = entry["type"] in report["conversions"]
            named = entry.get("recommendation_id")
            window = conversion_window if is_conversion else click_window

            def is_candidate(shown):
                if is_conversion:
                    allowed = report["touch"] == "impression" or named is not None or shown["clicked"]
                else:
                    allowed = not shown["clicked"]
                return (
                    allowed
                    and shown["user"] == entry["user_id"]
                    and shown["key"][1] == entry["item_id"]
                    and 0 <= entry["timestamp"] - shown["at"] <= window
                    and named in (None, shown["key"][0])
                )

            candidates = sorted(filter(is_candidate, shown_items), key=lambda shown: shown["at"])
            if candidates:
                latest = candidates[-1]
                if not is_conversion:
                    latest["clicked"] = True
                yield ("conversions" if is_conversion else "clicks"), latest, entry


def wilson(successes, trials):
    rate, z2 = min(successes, trials) / trials, Z * Z
    center = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z / (1 + z2 / trials) * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials * trials))
    return {"low": max(center - half, 0), "high": min(center + half, 1)}


def row(name, counted):
    count = {kind: sum(1 for one in counted if one[0] == kind) for kind in ("impressions", "clicks", "conversions")}
    result = {"group": name, **count, "revenue": []}
    for rate, part, whole in (("ctr", "clicks", "impressions"), ("cvr", "conversions", "clicks")):
        if count[whole]:
            result[rate] = count[part] / count[whole]
            result[rate + "_interval"] = wilson(count[part], count[whole])
    amounts = {}
    for kind, _, event in counted:
        if kind == "conversions" and "value" in event:
            amounts.setdefault(event.get("currency", ""), []).append(event["value"] * event.get("quantity", 1))
    for currency, values in sorted(amounts.items()):
        half = Z * math.sqrt(sum(value * value for value in values))
        interval = {"low": sum(values) - half, "high": sum(values) + half}
        result["revenue"].append({"currency": currency, "sum": sum(values), "interval": interval})
    return result


def expected_report(entries, report):
    begin = milliseconds(report["from"]) if "from" in report else -math.inf
    end = milliseconds(report["to"]) if "to" in report else math.inf
    counted = [
        one
        for one in attribute(entries, report)
        if begin <= one[1]["at"] < end and report.get("placement") in (None, one[1]["list"].get("placement"))
    ]
    by_group = {}
    for one in counted:
        for name in groups(one[1], report["by"]):
            by_group.setdefault(name, []).append(one)
    return {"rows": [row(name, by_group[name]) for name in sorted(by_group)], "total": row(TOTAL, counted)}


def differences(found, expected, where):
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in expected.keys() | found.keys():
            yield from differences(found.get(name), expected.get(name), f"{where}.{name}")
    elif isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        for number, (one, other) in enumerate(zip(found, expected)):
            yield from differences(one, other, f"{where}[{number}]")
    elif isinstance(expected, float) and isinstance(found, (int, float)):
        if not math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9):
            yield f"{where}: {found} instead of {expected}"
    elif found != expected:
        yield f"{where}: {found} instead of {expected}"


with open(sys.argv[1], encoding="utf-8") as file:
    journal = [json.loads(line) for line in file if line.strip()]
with open(sys.argv[2], encoding="utf-8") as file:
    daemon_report = json.load(file)
found_report = {name: daemon_report[name] for name in ("rows", "total")}
wrong = list(differences(found_report, expected_report(journal, daemon_report), "report"))
sys.exit("\n".join(wrong) or 0)
