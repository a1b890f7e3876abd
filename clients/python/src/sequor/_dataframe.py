"""Events from a pandas DataFrame. Needs the extra `pandas`."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sequor._models import Event, timestamp_json
from sequor._requests import encode

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

    Without a column for `event_id`, the id is a digest of the event, so the rows of a frame count
    once, however often they are sent. The types of the columns do not matter: 3 and 3.0 are equal,
    and so are the same moments in different notations. Identical rows are different events.

    Raises `ValueError` with the row for a value that an event cannot have.
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
    # Floats of 32 bits are exact below 2^24, those of 64 bits below 2^53.
    limits = {
        name: 2**24 if getattr(frame[column].dtype, "itemsize", 8) == 4 else 2**53
        for name, column in mapped.items()
    }
    rows = zip(*(frame[column] for column in mapped.values()), strict=True)
    for label, row in zip(frame.index, rows, strict=True):
        try:
            event = _event(mapped, limits, row, type, types or {})
            digest = _digest(event)
        except (TypeError, ValueError) as error:
            raise ValueError(f"row {label!r}: {error}") from error
        if "event_id" not in event:
            event["event_id"] = f"{digest}-{occurrences[digest]}"
            occurrences[digest] += 1
        yield Event(**event)


def _mapped_columns(frame: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, Any]:
    for name, column in columns.items():
        if name not in _FIELDS:
            raise ValueError(f"`{name}` is no field of an event; the fields are {', '.join(sorted(_FIELDS))}")
        if column not in frame.columns:
            raise ValueError(f"no column {column!r}; the frame has {', '.join(map(str, frame.columns))}")
    mapped = {name: name for name in sorted(_FIELDS) if name in frame.columns} | dict(columns)
    for column in mapped.values():
        count = list(frame.columns).count(column)
        if count > 1:
            raise ValueError(f"the frame has {count} columns {column!r}")
    return mapped


def _event(
    mapped: Mapping[str, Any],
    limits: Mapping[str, int],
    row: tuple[Any, ...],
    kind: str | None,
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    """The fields of the event of a row. Missing values are left out. `limits` bound exact floats."""
    members = {}
    for (name, column), value in zip(mapped.items(), row, strict=True):
        if _is_missing(value):
            if name in ("user_id", "type"):
                raise ValueError(f"`{name}` (column {column!r}) is missing")
            continue
        try:
            members[name] = _member(name, value, limits[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` (column {column!r}) {error}") from error
    if kind is not None:
        members["type"] = kind
    members["type"] = kinds.get(members["type"], members["type"])
    return members


def _member(name: str, value: Any, limit: int) -> Any:
    """A value as the field of an event. Data frames store integers as floats if some are missing."""
    if name == "timestamp":
        if isinstance(value, datetime):
            return timestamp_json(value)
        return value if isinstance(value, str) else _whole_number(value, limit)
    if name == "quantity":
        return _whole_number(value, limit)
    if name.endswith("_id") or name == "type":
        return str(_whole_number(value, limit)) if isinstance(_plain(value), (int, float)) else str(value)
    plain = _plain(value)
    encode(plain)
    return plain


def _whole_number(value: Any, limit: int) -> int:
    """The integer that a number stands for. A float of `limit` or more stands for several integers."""
    number = _plain(value)
    if isinstance(number, int):
        return number
    if not isinstance(number, float) or not number.is_integer() or abs(number) >= limit:
        raise ValueError(f"is {value}; it must be a whole number below {limit}")
    return int(number)


def _plain(value: Any) -> Any:
    """A value without the types of numpy and pandas."""
    if isinstance(value, datetime):
        return timestamp_json(value)
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    return [_plain(member) for member in value] if isinstance(value, (list, tuple)) else value


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


def _digest(event: Mapping[str, Any]) -> str:
    members = {name: _canonical(value) for name, value in event.items()}
    if "timestamp" in members:
        members["timestamp"] = _moment(members["timestamp"])
    text = json.dumps(members, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    """A value in which whole floats are integers."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _moment(timestamp: int | str) -> int | str:
    """Milliseconds since 1970, if a timestamp is whole milliseconds."""
    if isinstance(timestamp, int):
        return timestamp
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    if moment.tzinfo is None:
        return timestamp
    milliseconds, rest = divmod(moment - datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1))
    # The text can have more digits than `datetime`.
    has_more_digits = re.search(r"\.\d{7}", timestamp) is not None
    return timestamp if rest or has_more_digits else milliseconds
