"""Prices: unknown is never free, list prices belong to vendors, the operator has the last word."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.ports.models import Usage
from app.ports.prices import FREE, Price, dollars, per_million, picodollars
from app.providers.echo import EchoConfig
from app.providers.instances import InstanceConfig, LocalConfig
from app.providers.openai.adapter import OpenAIConfig
from app.providers.prices import ListPrices, keyless, price_list

LISTED: Mapping[str, Any] = orjson.loads(files("app.providers").joinpath("prices.json").read_bytes())
MODELS = [
    (vendor, model, listed)
    for vendor, entry in LISTED["vendors"].items()
    for model, listed in entry["models"].items()
]
INSTANCES: list[InstanceConfig] = [
    OpenAIConfig(name="openai", api_key=SecretStr("k")),
    OpenAIConfig(name="ours", base_url="http://127.0.0.1:9000/v1"),
    OpenAIConfig(name="gemini", base_url="https://generativelanguage.googleapis.com/v1beta/openai"),
    EchoConfig(),
    LocalConfig(),
]
DEAR = Price(rate=per_million(input=1000.0, output=1000.0))


def known(own: Mapping[str, Price] | None = None) -> ListPrices:
    return price_list(INSTANCES, own or {})


# --- what is not known --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-of-tomorrow"), ("nobody", "gpt-4o"), ("openai", ""), ("openai", "gpt-4o-minimal")],
)
def test_what_is_not_listed_has_no_price(provider: str, model: str) -> None:
    assert known().of(provider, model) is None


def test_a_server_that_only_speaks_a_vendors_api_has_no_list_prices() -> None:
    assert known().of("ours", "gpt-4o") is None


def test_tokens_that_were_not_counted_have_no_cost() -> None:
    price = Price(rate=per_million(input=1.0, output=1.0))
    assert price.cost(Usage(output_tokens=5)) is None
    assert price.cost(Usage(input_tokens=5)) is None
    assert Price(rate=per_million(input=1.0)).cost(Usage(input_tokens=5)) == 5 * 10**6


# --- what is ------------------------------------------------------------------------------------------


def test_what_runs_here_is_free() -> None:
    assert known().of("echo", "any") == FREE
    assert known().of("local", "any") == FREE


@pytest.mark.parametrize(
    "model", ["gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-4o-mini-20240718", "gpt-4o-mini-latest"]
)
def test_a_snapshot_costs_what_its_model_costs(model: str) -> None:
    assert known().of("openai", model) == Price(rate=per_million(input=0.15, output=0.6, cached_input=0.075))


def test_a_snapshot_with_a_price_of_its_own_has_that() -> None:
    price = known().of("openai", "gpt-4o-2024-05-13")
    assert price is not None
    assert price.rate == per_million(input=5.0, output=15.0)


def test_a_long_prompt_costs_more_all_of_it() -> None:
    price = known().of("gemini", "models/gemini-2.5-pro")
    assert price is not None
    assert price.cost(Usage(input_tokens=200_000, output_tokens=0)) == picodollars(0.25)
    assert price.cost(Usage(input_tokens=200_001, output_tokens=1)) == picodollars(200_001 * 2.5e-6 + 15e-6)


def test_cached_tokens_are_among_the_input() -> None:
    price = Price(rate=per_million(input=2.0, output=8.0, cached_input=0.5))
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=400)
    assert price.cost(usage) == picodollars((600 * 2.0 + 400 * 0.5 + 100 * 8.0) / 1e6)


def test_what_the_vendor_writes_to_its_cache_may_cost_more_than_other_input() -> None:
    price = Price(rate=per_million(input=2.0, cached_input=0.5, cache_write=2.5))
    usage = Usage(input_tokens=1000, output_tokens=0, cached_tokens=400, cache_write_tokens=500)
    assert price.cost(usage) == picodollars((100 * 2.0 + 400 * 0.5 + 500 * 2.5) / 1e6)
    assert price.at_most(1000, 0) == picodollars(1000 * 2.5 / 1e6)


def test_counts_that_contradict_each_other_cost_no_more_than_the_input() -> None:
    price = Price(rate=per_million(input=2.0, cached_input=0.5, cache_write=2.5))
    usage = Usage(input_tokens=10, output_tokens=0, cached_tokens=8, cache_write_tokens=8)
    assert price.cost(usage) == picodollars((8 * 0.5 + 2 * 2.5) / 1e6)


@pytest.mark.parametrize(("vendor", "factor"), [("anthropic", 1.25), ("openai", 1.0)])
def test_writing_to_the_cache_is_dearer_where_the_vendor_says_so(vendor: Any, factor: float) -> None:
    prices = ListPrices(vendors={"it": vendor})
    for model in LISTED["vendors"][vendor]["models"]:
        price = prices.of("it", model)
        assert price is not None
        assert price.rate.cache_write == pytest.approx(price.rate.input * factor)


@pytest.mark.parametrize(
    "name", ["openai/gpt-4o", "*/gpt-4o", "openai/*", "openai/gpt-4o-2024-08-06", "*/gpt-4o-2024-08-06"]
)
def test_the_operators_price_goes_before_the_list(name: str) -> None:
    assert known({name: DEAR}).of("openai", "gpt-4o-2024-08-06") == DEAR


def test_the_more_exact_name_goes_first() -> None:
    cheap = Price(rate=per_million(input=1.0))
    own = {"*/m": DEAR, "ours/m": cheap, "ours/*": DEAR}
    assert known(own).of("ours", "m") == cheap


def test_an_operator_may_price_what_is_free() -> None:
    assert known({"local/*": DEAR}).of("local", "any") == DEAR


# --- the list itself ----------------------------------------------------------------------------------


def test_the_list_is_dated_and_names_its_sources() -> None:
    assert date.fromisoformat(ListPrices(vendors={}).as_of).year >= 2026
    assert all(entry["source"] for entry in LISTED["vendors"].values())


@pytest.mark.parametrize(("vendor", "model", "listed"), MODELS)
def test_every_listed_price_is_plausible(vendor: Any, model: str, listed: Mapping[str, Any]) -> None:
    price = ListPrices(vendors={"it": vendor}).of("it", model)
    assert price is not None
    assert 0 < listed["input"] <= 100
    assert listed.get("cached_input", 0) <= listed["input"]
    assert listed.get("output", 0) == 0 or listed["input"] <= listed["output"] <= 10 * listed["input"]
    assert dollars(price.rate.input * 10**6) == pytest.approx(listed["input"])
    if price.long is not None:
        assert price.long.input > price.rate.input


@given(
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    used=st.tuples(*[st.floats(0, 1)] * 4),
    rates=st.tuples(*[st.floats(0, 100, allow_subnormal=False)] * 4),
    above=st.none() | st.integers(1, 10**6),
)
def test_no_usage_within_a_bound_costs_more_than_the_bound(
    input_tokens: int,
    output_tokens: int,
    used: tuple[float, float, float, float],
    rates: tuple[float, float, float, float],
    above: int | None,
) -> None:
    rate = per_million(input=rates[0], output=rates[1], cached_input=rates[2], cache_write=rates[3])
    long = per_million(input=rates[0] / 2, output=rates[1] * 2) if above else None
    price = Price(rate=rate, above=above, long=long)
    usage = Usage(
        input_tokens=int(input_tokens * used[0]),
        output_tokens=int(output_tokens * used[1]),
        cached_tokens=int(input_tokens * used[2]),
        cache_write_tokens=int(input_tokens * used[3]),
    )
    cost = price.cost(usage)
    assert cost is not None
    assert cost <= price.at_most(input_tokens, output_tokens)


def test_an_instance_at_a_vendor_without_a_key_is_told() -> None:
    assert keyless(INSTANCES) == {"gemini"}
