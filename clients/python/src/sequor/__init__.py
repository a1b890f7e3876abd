"""Client of Sequor, a real-time recommender."""

from sequor._async_buffer import AsyncEventBuffer
from sequor._async_client import AsyncSequorClient
from sequor._buffer import BufferOptions, BufferStats, EventBuffer
from sequor._client import SequorClient
from sequor._dataframe import events_from_dataframe
from sequor._errors import ConnectionFailed, EventsRejected, Problem, SequorError
from sequor._models import (
    ChangeReceipt,
    Event,
    ImpressionReceipt,
    Item,
    ItemChange,
    ItemList,
    ListItem,
    RankedItem,
    RankedList,
    Receipt,
    Recommendations,
    RecommendedItem,
    Rejection,
)
from sequor._requests import ListOptions
from sequor._retry import RetryPolicy

__all__ = [
    "AsyncEventBuffer",
    "AsyncSequorClient",
    "BufferOptions",
    "BufferStats",
    "ChangeReceipt",
    "ConnectionFailed",
    "Event",
    "EventBuffer",
    "EventsRejected",
    "ImpressionReceipt",
    "Item",
    "ItemChange",
    "ItemList",
    "ListItem",
    "ListOptions",
    "Problem",
    "RankedItem",
    "RankedList",
    "Receipt",
    "RecommendedItem",
    "Recommendations",
    "Rejection",
    "RetryPolicy",
    "SequorClient",
    "SequorError",
    "events_from_dataframe",
]
