"""Prices by instance and model: the operator's own, and the public list prices that are shipped.

The shipped list (`prices.json`) belongs to vendors, not to names: an instance that only speaks a vendor's
API has no list price, whatever its models are called. It is read when the first price is asked for.
What a vendor calls a dated snapshot (`-2025-04-14`, `-20250929`, `-latest`) costs what its model costs,
unless the list has it by its full name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.resources import files
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import orjson

from app.ports.prices import FREE, Price, Rate, per_million
from app.providers.echo import EchoConfig
from app.providers.instances import InstanceConfig, LocalConfig

Vendor = Literal["openai", "anthropic", "google", "mistral", "cohere"]
OFFICIAL_HOSTS: Final[Mapping[str, Vendor]] = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "api.mistral.ai": "mistral",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
}
"""Hosts at which the list prices hold."""
ANY: Final = "*"
_SNAPSHOT: Final = re.compile(r"(.+?)-(?:\d{4}-\d{2}-\d{2}|20\d{6}|latest)")
_PREFIX: Final = "models/"
"""Google's own prefix of model names."""


class ListPrices:
    """Implements `app.ports.prices.Prices`."""

    def __init__(
        self,
        *,
        vendors: Mapping[str, Vendor],
        free: frozenset[str] = frozenset(),
        own: Mapping[str, Price] | None = None,
    ) -> None:
        """`vendors`: instance → whose list prices hold for it; `free`: instances that cost nothing.

        `own` are the operator's, by `<instance or *>/<model or *>`; they come before everything else, the
        more exact name first.
        """
        self._vendors = vendors
        self._free = free
        self._own = own or {}
        self._known: dict[tuple[str, str], Price | None] = {}

    def of(self, provider: str, model: str) -> Price | None:
        """See `Prices`."""
        place = (provider, model)
        if place not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()  # model names come out of documents: there is no end to them
            self._known[place] = self._find(provider, model)
        return self._known[place]

    @property
    def as_of(self) -> str:
        """The day (ISO 8601) that the shipped list is of."""
        return str(self._shipped["as_of"])

    def _find(self, provider: str, model: str) -> Price | None:
        for name in _names(model):
            for instance in (provider, ANY):
                if (price := self._own.get(f"{instance}/{name}")) is not None:
                    return price
        if (price := self._own.get(f"{provider}/{ANY}")) is not None:
            return price
        if provider in self._free:
            return FREE
        vendor = self._vendors.get(provider)
        if vendor is None:
            return None
        sheet = self._shipped["vendors"][vendor]
        listed = sheet["models"]
        found = next((listed[name] for name in _names(model) if name in listed), None)
        return None if found is None else _price(found, cache_write_factor=sheet.get("cache_write_factor", 1))

    @cached_property
    def _shipped(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = orjson.loads(files("app.providers").joinpath("prices.json").read_bytes())
        return content


MOST_KNOWN: Final = 10_000


def price_list(instances: Iterable[InstanceConfig], own: Mapping[str, Price]) -> ListPrices:
    """The operator's prices, and the list prices of whom the instances call. What runs here is free."""
    vendors: dict[str, Vendor] = {}
    free: set[str] = set()
    for config in instances:
        if isinstance(config, EchoConfig | LocalConfig):
            free.add(config.name)
        elif (vendor := vendor_at(getattr(config, "base_url", ""))) is not None:
            vendors[config.name] = vendor
    return ListPrices(vendors=vendors, free=frozenset(free), own=own)


def keyless(instances: Iterable[InstanceConfig]) -> frozenset[str]:
    """Instances at a vendor that answers nobody without a key."""
    return frozenset(
        config.name
        for config in instances
        if vendor_at(getattr(config, "base_url", "")) and not getattr(config, "api_key", None)
    )


def vendor_at(base_url: str) -> Vendor | None:
    """Whose list prices hold at a base URL; None for servers that only speak a vendor's API."""
    return OFFICIAL_HOSTS.get(urlsplit(base_url).hostname or "")


def _names(model: str) -> list[str]:
    """A model's name, and that of the model it is a snapshot of."""
    name = model.removeprefix(_PREFIX)
    snapshot = _SNAPSHOT.fullmatch(name)
    return [model, name, *([] if snapshot is None else [snapshot[1]])]


def _price(listed: Mapping[str, Any], *, cache_write_factor: float) -> Price:
    rate = _rate(listed, cache_write_factor)
    long = listed.get("long_context")
    if long is None:
        return Price(rate=rate)
    return Price(rate=rate, above=long["above_input_tokens"], long=_rate(long, cache_write_factor))


def _rate(listed: Mapping[str, Any], cache_write_factor: float) -> Rate:
    return per_million(
        input=listed["input"],
        output=listed.get("output", 0.0),
        cached_input=listed.get("cached_input"),
        cache_write=listed["input"] * cache_write_factor,
    )
