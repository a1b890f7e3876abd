"""Writes the Parquet files of this folder, and examples/feeds/ga4-events.parquet, with the libraries
that data teams use. The tests read the files; run this script only to change them:

    pip install pyarrow==26.0.1 pandas==3.1.1 fastparquet polars==2.1.0 duckdb==2.0.1
    python tests/integration/parquet_samples/write_samples.py
"""

import datetime
import decimal
import json
import pathlib
import uuid

import duckdb
import fastparquet
import pandas
import polars
import pyarrow
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
FEEDS = HERE.parents[2] / "examples" / "feeds"
START = datetime.datetime(2026, 3, 2, 10, 0, 0, 123456)
UTC = datetime.timezone.utc


def event_frame(rows):
    """Events with the column names of CSV, ids as integers and times without a time zone."""
    return pandas.DataFrame(
        {
            "user": [1000 + number % 7 for number in range(rows)],
            "item": [number % 5 if number % 4 else 9_007_199_254_740_993 for number in range(rows)],
            "event": ["view" if number % 3 else "purchase" for number in range(rows)],
            "timestamp": [START + datetime.timedelta(minutes=number) for number in range(rows)],
            "value": [None if number % 3 else 1.5 * number for number in range(rows)],
        }
    )


def write_ga4():
    """BigQuery writes integers as INT64, and lists with the groups `list` and `element`."""
    integers = ["event_timestamp", "event_bundle_sequence_id", "batch_page_id", "batch_ordering_id", "batch_event_index"]

    def event(line):
        event = json.loads(line)
        for name in integers:
            if name in event:
                event[name] = int(event[name])
        for parameter in event.get("event_params", []):
            if "int_value" in parameter["value"]:
                parameter["value"]["int_value"] = int(parameter["value"]["int_value"])
        return event

    events = [event(line) for line in (FEEDS / "ga4-events.jsonl").read_text().splitlines()]
    # The library takes the columns from the first event.
    names = dict.fromkeys(name for event in events for name in event)
    table = pyarrow.Table.from_pylist([{name: event.get(name) for name in names} for event in events])
    pyarrow.parquet.write_table(table, FEEDS / "ga4-events.parquet", compression="zstd", row_group_size=8,
        store_schema=False)


def write_types():
    """Each type of a column, in a file of pyarrow with nested fields and pages of version 2."""
    moment = datetime.datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=UTC)
    columns = {
        "text": pyarrow.array(["Zoë", None], pyarrow.string()),
        "large_text": pyarrow.array(["a\"b\\", None], pyarrow.large_string()),
        "category": pyarrow.array(["tea", None]).dictionary_encode(),
        "small": pyarrow.array([-7, None], pyarrow.int8()),
        "unsigned": pyarrow.array([2**64 - 1, None], pyarrow.uint64()),
        "flag": pyarrow.array([True, None]),
        "half": pyarrow.array([0.5, None], pyarrow.float16()),
        "single": pyarrow.array([0.1, None], pyarrow.float32()),
        "double": pyarrow.array([0.1, float("nan")], pyarrow.float64()),
        "infinite": pyarrow.array([float("inf"), None], pyarrow.float64()),
        "price": pyarrow.array([decimal.Decimal("-12.30"), None], pyarrow.decimal128(38, 9)),
        "whole": pyarrow.array([decimal.Decimal(5), None], pyarrow.decimal128(7, 0)),
        "date": pyarrow.array([datetime.date(2026, 3, 2), datetime.date(1969, 12, 31)]),
        "time_ms": pyarrow.array([datetime.time(1, 2, 3, 4000), None], pyarrow.time32("ms")),
        "time_ns": pyarrow.array([datetime.time(1, 2, 3, 4), None], pyarrow.time64("ns")),
        "at_s": pyarrow.array([moment, None], pyarrow.timestamp("s", "UTC")),
        "at_ms": pyarrow.array([moment, None], pyarrow.timestamp("ms", "UTC")),
        "at_us": pyarrow.array([moment, None], pyarrow.timestamp("us", "Europe/Berlin")),
        "at_ns": pyarrow.array([moment, None], pyarrow.timestamp("ns", "UTC")),
        "local_us": pyarrow.array([START, None], pyarrow.timestamp("us")),
        "bytes": pyarrow.array([b"plain", b"\xff\x00"]),
        "uuid": pyarrow.array([uuid.UUID(int=2**100 + 5).bytes, None], pyarrow.uuid()),
        "list": pyarrow.array([["a", None, "b"], []], pyarrow.list_(pyarrow.string())),
        "nested": pyarrow.array(
            [[[1, 2], None, []], None], pyarrow.list_(pyarrow.list_(pyarrow.int32()))
        ),
        "group": pyarrow.array([{"a": 1, "b": {"c": "x", "d": [moment]}}, None],
            pyarrow.struct([("a", pyarrow.int64()), ("b", pyarrow.struct([("c", pyarrow.string()),
                ("d", pyarrow.list_(pyarrow.timestamp("ns", "UTC")))]))])),
        "groups": pyarrow.array([[{"k": "x", "v": None}, {"k": "y", "v": 2}], []],
            pyarrow.list_(pyarrow.struct([("k", pyarrow.string()), ("v", pyarrow.int64())]))),
        "map": pyarrow.array([[("a", 1), ("b", None)], []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        "numbered": pyarrow.array([[(7, "x")], None], pyarrow.map_(pyarrow.int32(), pyarrow.string())),
        "properties": pyarrow.array(['{"a":\n1}', "not JSON"]),
        "user_id": pyarrow.array([12, None], pyarrow.int64()),
        "empty": pyarrow.nulls(2),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), HERE / "types.parquet", compression="gzip",
        data_page_version="2.0", use_deprecated_int96_timestamps=False, store_schema=False)
    legacy = {"at": columns["at_ns"], "list": columns["list"]}
    pyarrow.parquet.write_table(pyarrow.table(legacy), HERE / "legacy.parquet", compression="gzip", version="1.0",
        use_deprecated_int96_timestamps=True, use_compliant_nested_type=False, store_schema=False)
    pyarrow.parquet.write_table(pyarrow.table({"user": ["a"]}), HERE / "lz4.parquet", compression="lz4")
    ids = {"user_id": pyarrow.array([decimal.Decimal(12), decimal.Decimal(2**70), decimal.Decimal(7)], pyarrow.decimal128(38, 0)),
        "session_id": pyarrow.array([decimal.Decimal("3.00"), decimal.Decimal("3.25"), None], pyarrow.decimal128(9, 2)),
        "item_id": pyarrow.array([42.0, 2.5, None], pyarrow.float64())}
    pyarrow.parquet.write_table(pyarrow.table(ids), HERE / "number_ids.parquet")
    absent = {"user_id": ["a", "a"], "type": ["view", "view"], "item_id": ["x", "y"],
        "timestamp": pyarrow.array([moment, None], pyarrow.timestamp("ms", "UTC"))}
    pyarrow.parquet.write_table(pyarrow.table(absent), HERE / "absent_time.parquet")


def write_events():
    """The same events from several libraries."""
    frame = event_frame(40)
    frame.to_parquet(HERE / "pandas.parquet", index=False, row_group_size=16)
    fastparquet.write(str(HERE / "fastparquet.parquet"), frame, compression="GZIP", row_group_offsets=16)
    polars.from_pandas(frame).write_parquet(HERE / "polars.parquet", compression="zstd")
    connection = duckdb.connect()
    connection.register("frame", frame)
    connection.execute(f"COPY frame TO '{HERE}/duckdb.parquet' (FORMAT parquet, COMPRESSION snappy)")


def write_items():
    rows = [
        {"sku": 1, "title": "Green tea", "categories": ["drinks", "tea"], "price": decimal.Decimal("4.50"), "available": True},
        {"sku": 2, "title": "Cup", "categories": ["kitchen"], "price": None, "available": False},
        {"sku": 3, "title": None, "categories": [], "price": decimal.Decimal("12.00"), "available": None},
    ]
    schema = pyarrow.schema([("sku", pyarrow.int64()), ("title", pyarrow.string()),
        ("categories", pyarrow.list_(pyarrow.string())), ("price", pyarrow.decimal128(10, 2)), ("available", pyarrow.bool_())])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), HERE / "items.parquet", compression="none")


if __name__ == "__main__":
    write_ga4()
    write_types()
    write_events()
    write_items()
