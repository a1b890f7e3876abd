"""Events, receipts and lists. Field names are those of the API."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Literal

from sequor._errors import EventsRejected

Consent = Literal["none", "session", "full"]
ContextValue = str | float | bool
AttributeValue = str | float | bool | Sequence[str] | Sequence[float]
Timestamp = datetime | int | str


def _new_event_id() -> str:
    return uuid.uuid4().hex


def timestamp_json(timestamp: Timestamp) -> int | str:
    """A timestamp in the format of the API. A `datetime` must have a time zone."""
    if not isinstance(timestamp, datetime):
        return timestamp
    if timestamp.tzinfo is None:
        raise ValueError(
            f"timestamp {timestamp} has no time zone; use datetime.now(timezone.utc), for example"
        )
    return timestamp.isoformat()


@dataclass(frozen=True)
class Event:
    """A user event.

    Every event gets an `event_id` when it is made. The daemon ignores an id that it has seen, so
    an event that is sent again counts once. A number as `timestamp` is in milliseconds since 1970.
    """

    user_id: str
    type: str
    item_id: str | None = None
    value: float | None = None
    timestamp: Timestamp | None = None
    session_id: str | None = None
    recommendation_id: str | None = None
    currency: str | None = None
    quantity: int | None = None
    context: Mapping[str, ContextValue] | None = None
    properties: Mapping[str, Any] | None = None
    consent: Consent | None = None
    event_id: str = field(default_factory=_new_event_id)

    def to_json(self) -> dict[str, Any]:
        """The event in the format of the API."""
        members = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.timestamp is not None:
            members["timestamp"] = timestamp_json(self.timestamp)
        return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True)
class Rejection:
    """An invalid record of a request, or a warning about a valid one. `index` counts from 0."""

    index: int
    code: str
    reason: str
    field: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any], first_index: int = 0) -> Rejection:
        return cls(json["index"] + first_index, json["code"], json["reason"], json.get("field"))


@dataclass(frozen=True)
class Receipt:
    """The outcome of events or item changes. Accepted records are on disk.

    `offset` is the position of the journal after the records. Pass the receipt as `after` to read
    a list that includes them. It is None if nothing was stored.
    """

    accepted: int = 0
    duplicates: int = 0
    withheld: int = 0
    rejected: tuple[Rejection, ...] = ()
    warnings: tuple[Rejection, ...] = ()
    offset: int | None = None
    recommendations: Recommendations | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Receipt:
        recommendations = json.get("recommendations")
        return cls(
            accepted=json["accepted"],
            duplicates=json["duplicates"],
            withheld=json["withheld"],
            rejected=tuple(Rejection.from_json(entry) for entry in json["rejected"]),
            warnings=tuple(Rejection.from_json(entry) for entry in json.get("warnings", ())),
            offset=json.get("offset"),
            recommendations=Recommendations.from_json(recommendations) if recommendations else None,
        )

    def merged(self, later: Receipt, first_index: int) -> Receipt:
        """The receipt of both requests. `first_index` is the index of the later request's first record."""

        def shifted(entries: tuple[Rejection, ...]) -> tuple[Rejection, ...]:
            return tuple(replace(entry, index=entry.index + first_index) for entry in entries)

        offsets = [offset for offset in (self.offset, later.offset) if offset is not None]
        return Receipt(
            accepted=self.accepted + later.accepted,
            duplicates=self.duplicates + later.duplicates,
            withheld=self.withheld + later.withheld,
            rejected=self.rejected + shifted(later.rejected),
            warnings=self.warnings + shifted(later.warnings),
            offset=max(offsets, default=None),
            recommendations=later.recommendations or self.recommendations,
        )

    def raise_if_rejected(self) -> Receipt:
        """Raises `EventsRejected` if the daemon rejected a record, else returns the receipt."""
        if self.rejected:
            raise EventsRejected(self.rejected)
        return self


@dataclass(frozen=True)
class ChangeReceipt:
    """The receipt of a change of a placement. `warnings` are probable mistakes, in words."""

    offset: int | None
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ChangeReceipt:
        return cls(json.get("offset"), tuple(json["warnings"]))


@dataclass(frozen=True)
class ImpressionReceipt:
    """The receipt of a reported list. Events that respond to the list name its `recommendation_id`."""

    recommendation_id: str
    accepted: int
    duplicates: int
    withheld: int
    offset: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ImpressionReceipt:
        counts = json["accepted"], json["duplicates"], json["withheld"]
        return cls(json["recommendation_id"], *counts, json.get("offset"))


@dataclass(frozen=True)
class RecommendedItem:
    """An item of a list. Scores of different lists are not comparable."""

    item_id: str
    score: float
    source: str
    explanation: Mapping[str, Any] | None = None
    interest: Mapping[str, float] | None = None
    details: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> RecommendedItem:
        optional = json.get("explanation"), json.get("interest"), json.get("details")
        return cls(json["item_id"], json["score"], json["source"], *optional)


@dataclass(frozen=True)
class Recommendations:
    """A list of recommended items, best first.

    `removed` counts the removed candidates by reason. `fallback` says what the list lacks; `none`
    is nothing. `offset` is the journal position of a list of a stream.
    """

    recommendation_id: str
    weights_version: int
    items: tuple[RecommendedItem, ...]
    fallback: str
    removed: Mapping[str, int]
    placement: str | None = None
    interest_kind: str | None = None
    removed_by_rules: tuple[Mapping[str, Any], ...] = ()
    offset: int | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any], offset: int | None = None) -> Recommendations:
        return cls(
            recommendation_id=json["recommendation_id"],
            weights_version=json["weights_version"],
            items=tuple(RecommendedItem.from_json(item) for item in json["items"]),
            fallback=json["fallback"],
            removed=json["removed"],
            placement=json.get("placement"),
            interest_kind=json.get("interest_kind"),
            removed_by_rules=tuple(json.get("removed_by_rules") or ()),
            offset=offset,
        )

    @property
    def item_ids(self) -> list[str]:
        """The ids of the items, best first."""
        return [item.item_id for item in self.items]


@dataclass(frozen=True)
class ItemList:
    """A list that is not personalised: similar or trending items, best first."""

    items: tuple[RecommendedItem, ...]
    placement: str | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> ItemList:
        return cls(tuple(RecommendedItem.from_json(item) for item in json["items"]), json.get("placement"))


@dataclass(frozen=True)
class ListItem:
    """An item to rank, or a shown item. `relevance` is the site's own score of the item."""

    item_id: str
    relevance: float | None = None
    model_score: float | None = None


@dataclass(frozen=True)
class RankedItem:
    """An item of a ranked list. `position` is its place in the request, from 0."""

    item_id: str
    position: int
    score: float | None
    status: str
    is_available: bool
    source: str | None = None
    explanation: Mapping[str, Any] | None = None
    interest: Mapping[str, float] | None = None
    combination: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> RankedItem:
        optional = {entry.name: json.get(entry.name) for entry in fields(cls)}
        return cls(**optional)  # type: ignore[arg-type]


@dataclass(frozen=True)
class RankedList:
    """The items of a request in the order for the user, best first."""

    weights_version: int
    is_personalised: bool
    items: tuple[RankedItem, ...]
    recommendation_id: str | None = None
    placement: str | None = None
    removed_by_rules: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> RankedList:
        return cls(
            weights_version=json["weights_version"],
            is_personalised=json["is_personalised"],
            items=tuple(RankedItem.from_json(item) for item in json["items"]),
            recommendation_id=json.get("recommendation_id"),
            placement=json.get("placement"),
            removed_by_rules=tuple(json.get("removed_by_rules") or ()),
        )


@dataclass(frozen=True)
class Item:
    """An item of the catalog. `published` and `expires` are in milliseconds since 1970."""

    item_id: str
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    available: bool = True
    brand: str | None = None
    price: float | None = None
    published: int | None = None
    expires: int | None = None
    title: str | None = None
    url: str | None = None
    image: str | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    vectors: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, json: Mapping[str, Any]) -> Item:
        known = {entry.name: json[entry.name] for entry in fields(cls) if json.get(entry.name) is not None}
        for name in ("categories", "tags"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)


@dataclass(frozen=True)
class ItemChange:
    """A change of an item. `attributes` are the members of the item in the format of the API.

    `put` replaces the item, `patch` changes the named members, `delete` removes the item.
    """

    item_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    op: Literal["put", "patch", "delete"] = "put"

    def to_json(self) -> dict[str, Any]:
        """The change in the format of the API."""
        return {**self.attributes, "item_id": self.item_id, "op": self.op}
