"""Events from DataFrames."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sequor import Event, events_from_dataframe

PURCHASES = {
    "user_id": [1, 2],
    "item_id": [10, 20],
    "type": ["purchase", "purchase"],
    "quantity": [1, 2],
    "value": [3, 4],
    "session_id": [5, 6],
    "timestamp": [1_764_600_000_000, 1_764_600_000_001],
}


def events_of(**columns: list[object]) -> list[Event]:
    return list(events_from_dataframe(pd.DataFrame(columns)))


def test_columns_become_fields() -> None:
    frame = pd.DataFrame(
        {
            "visitor": [7, 8],
            "sku": ["tea", "cup"],
            "event": ["addtocart", "view"],
            "time": [pd.Timestamp("2026-01-01T10:00:00Z"), pd.NaT],
            "quantity": [2.0, None],
            "value": [4.5, float("nan")],
        }
    )
    columns = {"user_id": "visitor", "item_id": "sku", "type": "event", "timestamp": "time"}
    first, second = (
        event.to_json() for event in events_from_dataframe(frame, columns, types={"addtocart": "cart"})
    )
    first_id, second_id = first.pop("event_id"), second.pop("event_id")
    assert first == {
        "user_id": "7",
        "type": "cart",
        "item_id": "tea",
        "value": 4.5,
        "timestamp": "2026-01-01T10:00:00+00:00",
        "quantity": 2,
    }
    assert second == {"user_id": "8", "type": "view", "item_id": "cup"}
    assert first_id != second_id


def test_the_same_frame_has_the_same_ids_and_identical_rows_have_different_ones() -> None:
    frame = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": ["tea", "tea", "tea"]})
    once = [event.event_id for event in events_from_dataframe(frame, type="view")]
    again = [event.event_id for event in events_from_dataframe(frame, type="view")]
    assert once == again
    assert len(set(once)) == 3
    assert once[0] != next(events_from_dataframe(frame, type="cart")).event_id


def test_an_id_of_the_frame_is_kept() -> None:
    frame = pd.DataFrame({"user_id": ["ann"], "item_id": ["tea"], "event_id": ["e1"], "type": ["view"]})
    assert [event.event_id for event in events_from_dataframe(frame)] == ["e1"]


@pytest.mark.parametrize(
    ("columns", "kind", "message"),
    [
        ({"user": "visitor"}, "view", "`user` is no field of an event"),
        ({"user_id": "visitors"}, "view", "no column 'visitors'; the frame has visitor, item_id"),
        ({}, "view", "no column for `user_id`"),
        ({"user_id": "visitor"}, None, "no column for `type`"),
    ],
)
def test_wrong_columns_are_errors(columns: dict[str, str], kind: str | None, message: str) -> None:
    frame = pd.DataFrame({"visitor": ["ann"], "item_id": ["tea"]})
    with pytest.raises(ValueError, match=message):
        list(events_from_dataframe(frame, columns, type=kind))


def test_a_time_without_a_zone_is_an_error() -> None:
    frame = pd.DataFrame(
        {"user_id": ["ann"], "item_id": ["tea"], "timestamp": pd.to_datetime(["2026-01-01"])}
    )
    with pytest.raises(ValueError, match="has no time zone"):
        list(events_from_dataframe(frame, type="view"))


def test_integer_ids_with_missing_values_are_the_same_ids() -> None:
    whole = pd.DataFrame(PURCHASES)
    grown = pd.concat([whole, pd.DataFrame({"user_id": ["x"], "item_id": ["y"], "type": ["view"]})])
    floats = whole.astype(
        {"user_id": "float64", "item_id": "float32", "value": "float64", "quantity": "Int64"}
    )
    texts = whole.astype({"user_id": str, "item_id": "string", "session_id": "category"})
    shuffled = whole[list(reversed(whole.columns))].assign(properties=None, other=1)
    times = whole.assign(timestamp=pd.to_datetime(whole["timestamp"], unit="ms", utc=True))
    zoned = whole.assign(
        timestamp=times["timestamp"].dt.tz_convert("Asia/Tokyo").map(lambda at: at.isoformat())
    )
    expected = [json.loads(json.dumps(event.to_json())) for event in events_from_dataframe(whole)]
    assert [(event["user_id"], event["item_id"], event["session_id"]) for event in expected] == [
        ("1", "10", "5"),
        ("2", "20", "6"),
    ]
    for frame in (grown, floats, texts, shuffled, times, zoned):
        events = [event.to_json() for event in events_from_dataframe(frame)][:2]
        for event in events:
            event.pop("timestamp")
        assert events == [{k: v for k, v in event.items() if k != "timestamp"} for event in expected]


def test_different_rows_have_different_ids() -> None:
    changes: list[dict[str, Any]] = [
        {"value": [3.5, 4]},
        {"timestamp": [1_764_600_000_002, 1]},
        {"timestamp": ["2025-12-01T14:40:00.0000001Z", 1]},
        {"timestamp": ["2025-12-01T14:40:00", 1]},
        {"session_id": ["5 ", 6]},
        {"properties": [{"a": 1}, None]},
    ]
    ids = {
        next(events_from_dataframe(pd.DataFrame(PURCHASES | change))).event_id for change in [{}, *changes]
    }
    assert len(ids) == len(changes) + 1


def test_numbers_of_numpy_become_numbers_of_json() -> None:
    properties = {
        "n": np.int64(3),
        "x": [np.float32(0.5)],
        "a": np.array([1, 2]),
        "t": pd.Timestamp(0, tz="UTC"),
    }
    (event,) = events_of(user_id=["a"], item_id=["b"], type=["view"], properties=[properties])
    assert json.loads(json.dumps(event.to_json()))["properties"] == {
        "n": 3,
        "x": [0.5],
        "a": [1, 2],
        "t": "1970-01-01T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": ["a", None]}, r"row 1: `user_id` \(column 'user_id'\) is missing"),
        ({"type": ["view", None]}, r"row 1: `type` \(column 'type'\) is missing"),
        (
            {"item_id": [1.5, None]},
            r"row 0: `item_id` \(column 'item_id'\) is 1.5; it must be a whole number",
        ),
        ({"item_id": [2.0**53, None]}, "must be a whole number below 9007199254740992"),
        ({"item_id": [float("inf"), None]}, "row 0: `item_id`"),
        (
            {"quantity": [1.9, None]},
            r"row 0: `quantity` \(column 'quantity'\) is 1.9; it must be a whole number",
        ),
        ({"timestamp": [0.5, None]}, "row 0: `timestamp`"),
        ({"timestamp": [pd.Timestamp("2026-01-01"), None]}, "row 0: `timestamp` .* has no time zone"),
        ({"properties": [{"a": {1, 2}}, None]}, "row 0: `properties` .*not JSON serializable"),
        ({"properties": [{"a": float("nan")}, None]}, "row 0: `properties`"),
        ({"value": [float("inf"), None]}, "row 0: `value`"),
    ],
)
def test_a_row_that_cannot_be_an_event_is_named(change: dict[str, list[object]], message: str) -> None:
    frame = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "type": ["view", "view"]} | change)
    with pytest.raises(ValueError, match=message):
        list(events_from_dataframe(frame, types={"view": "view"}))


def test_a_float32_id_of_several_integers_is_an_error() -> None:
    frame = pd.DataFrame({"user_id": np.array([2**24], dtype="float32"), "item_id": ["x"], "type": ["view"]})
    with pytest.raises(ValueError, match="below 16777216"):
        list(events_from_dataframe(frame))


def test_columns_of_the_same_name_are_an_error() -> None:
    frame = pd.DataFrame([["a", "x", "y", "view"]], columns=["user_id", "item_id", "item_id", "type"])
    with pytest.raises(ValueError, match="the frame has 2 columns 'item_id'"):
        list(events_from_dataframe(frame))
