"""Events from a pandas DataFrame. Needs the extra `pandas`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sequor._models import Event, timestamp_json

if TYPE_CHECKING:
    import pandas as pd

_FIELDS = frozenset(entry.name for entry in fields(Event))


def events_from_dataframe(
    frame: pd.DataFrame,
    columns: Mapping[str, str] | None = None,
    *,
    type: str | None = None,
    types: Mapping[str, str] | None = None,
) -> Iterator[Event]:
    """One event for each row, in the order of the rows.

    `columns` maps fields of `Event` to columns; a field that it does not name is read from the
    column of the same name, if there is one. `type` is the kind of all events. `types` replaces
    names in the column of the kind, such as `{"addtocart": "cart"}`. Missing values are left out.

    Without a column for `event_id`, the id is a digest of the row's values, so the rows of the same
    frame count once, however often they are sent. Identical rows are different events.
    """
    mapped = _mapped_columns(frame, columns or {})
    if type is not None:
        mapped.pop("type", None)
    elif "type" not in mapped:
        raise ValueError("no column for `type`; map one, or pass `type` for the kind of all events")
    for name in ("user_id", "item_id"):
        if name not in mapped:
            raise ValueError(f"no column for `{name}`; the frame has {', '.join(map(str, frame.columns))}")
    occurrences: Counter[str] = Counter()
    for row in zip(*(frame[column] for column in mapped.values()), strict=True):
        members = _members(mapped, row)
        if type is not None:
            members["type"] = type
        elif types:
            members["type"] = types.get(members["type"], members["type"])
        if "event_id" not in members:
            digest = _digest(members)
            members["event_id"] = f"{digest}-{occurrences[digest]}"
            occurrences[digest] += 1
        yield Event(**members)


def _mapped_columns(frame: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, Any]:
    for name, column in columns.items():
        if name not in _FIELDS:
            raise ValueError(f"`{name}` is no field of an event; the fields are {', '.join(sorted(_FIELDS))}")
        if column not in frame.columns:
            raise ValueError(f"no column {column!r}; the frame has {', '.join(map(str, frame.columns))}")
    return {name: name for name in sorted(_FIELDS) if name in frame.columns} | dict(columns)


def _members(mapped: Mapping[str, Any], row: tuple[Any, ...]) -> dict[str, Any]:
    members = {}
    for name, value in zip(mapped, row, strict=True):
        if _is_missing(value):
            continue
        if not isinstance(value, datetime) and hasattr(value, "item"):
            value = value.item()
        if name == "timestamp":
            value = timestamp_json(value)
        elif name == "quantity":
            value = int(value)
        elif name.endswith("_id") or name == "type":
            value = str(value)
        members[name] = value
    return members


def _is_missing(value: Any) -> bool:
    """None, NaN, NaT and pandas.NA: all but None differ from themselves or have no truth value."""
    if value is None:
        return True
    if isinstance(value, (Mapping, list, str)):
        return False
    try:
        return not bool(value == value)
    except TypeError:
        return True


def _digest(members: Mapping[str, Any]) -> str:
    text = json.dumps(members, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
