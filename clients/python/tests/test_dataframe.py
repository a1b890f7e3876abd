"""Events from DataFrames."""

from __future__ import annotations

import pandas as pd
import pytest

from sequor import events_from_dataframe


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
