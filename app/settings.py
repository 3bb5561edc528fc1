"""Everything an operator can set, grouped, checked at start, and read by the entry points only.

Sources, the first that names a value wins: command line, environment (`ORCHESTRATOR_SERVER__PORT`),
the YAML file named by `ORCHESTRATOR_CONFIG`, the defaults below. A name that does not exist is an error
(`app.settings_faults` finds those that pydantic-settings passes over).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.dsl.policies import PlanDefaults
from app.ports.prices import Price, per_million
from app.settings_defaults import default_providers, with_default_vendors, with_vendor_variables
from app.settings_fields import HostNames, HttpUrl, Listed, PostgresUrl, WebhookSecret
from app.settings_providers import DatabaseSettings, Group, ProviderSettings
from app.settings_sources import CONFIG_VARIABLE, Environment, Source, check_shapes, from_file
from app.settings_temporal import TemporalSettings
from app.templating.limits import RenderLimits

EMBEDDED_DATABASE = "embedded"
"""What documents call the vector database that needs no server."""


class ServerSettings(Group):
    """Where and how the service listens."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allow_open: bool = Field(
        False,
        description="Listen on an address other than loopback although this version has no authentication.",
    )
    allowed_hosts: HostNames = Field(
        (),
        description="Host names that callers may use beside localhost, 127.0.0.1, [::1] and server.host; "
        "any, if this is empty and the address is not loopback.",
    )
    max_body_bytes: int = Field(
        4 * 1024 * 1024, ge=1024, description="Largest request body; beyond it the answer is 413."
    )
    drain_seconds: float = Field(
        20.0, ge=0, description="After SIGTERM, how long runs may go on before they are handed over."
    )
    drain_delay_seconds: float = Field(
        0.5, ge=0, description="After SIGTERM, how long the listener stays open with /readyz at 503."
    )
    max_memory_mib: int | None = Field(
        None, ge=64, description="Resident memory past which /readyz turns false; none: never."
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class RunSettings(Group):
    """Bounds on runs."""

    max_active: int = Field(2000, ge=1, description="Runs in memory at once; the rest wait in the store.")
    max_pending: int = Field(
        10_000, ge=0, description="Runs that may wait; beyond it a submission gets 429 with Retry-After."
    )
    max_attempts_in_flight: int = Field(
        2000, ge=1, description="Step attempts in flight at once in this process."
    )
    max_concurrency: int = Field(
        64, ge=1, description="Attempts of one run in flight at once, unless its document says less."
    )
    default_timeout_seconds: float = Field(
        300.0, gt=0, description="Longest that an attempt may take when its document sets no timeout."
    )
    max_output_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="Largest outputs of one step, as JSON."
    )
    default_max_tokens: int = Field(
        4096, ge=1, description="In runs with a budget, max_tokens of llm steps that set none."
    )
    keep_finished_days: float | None = Field(
        None, gt=0, description="Days after which a run that ended is deleted; none: it is kept for ever."
    )

    def plan_defaults(self) -> PlanDefaults:
        """What holds for documents that do not say otherwise."""
        return PlanDefaults(max_concurrency=self.max_concurrency, step_timeout=self.default_timeout_seconds)


class StoreSettings(Group):
    """Where runs, workflows and schedules are kept."""

    url: PostgresUrl | None = Field(
        None, description="A PostgreSQL database (postgresql://…); none: a SQLite file in data_dir."
    )
    pool_size: int = Field(4, ge=1, le=100, description="PostgreSQL: connections that read; one more writes.")
    statement_timeout_seconds: float = Field(
        30.0, gt=0, le=3600, description="PostgreSQL: longest that one statement may take."
    )


class TemplateSettings(Group):
    """Bounds on one render."""

    max_output_chars: int = Field(4_000_000, ge=1000, description="Text that one render may produce.")
    timeout_seconds: float = Field(2.0, gt=0, description="Time that a render in a worker may take.")
    memory_mib: int = Field(256, ge=32, description="Memory that a render in a worker may take.")
    workers: int = Field(1, ge=1, description="Worker processes for templates that are not plainly linear.")

    def limits(self) -> RenderLimits:
        """The bounds as the renderer takes them."""
        return RenderLimits(
            max_output_chars=self.max_output_chars,
            timeout_seconds=self.timeout_seconds,
            memory_bytes=self.memory_mib * 2**20,
        )


class ActionSettings(Group):
    """What `action` steps do."""

    webhook_url: HttpUrl | None = Field(
        None, description="Where actions without a built-in meaning are POSTed; none: they are recorded."
    )


class EgressSettings(Group):
    """Where documents may make the service connect to."""

    allow_private: bool = Field(False, description="Allow loopback and private networks.")
    allowed_hosts: Listed = Field(
        (), description="Names and patterns (*.example.com) that are allowed; empty allows every public host."
    )


class WebhookSettings(Group):
    """Telling others of what happens to runs."""

    secret: WebhookSecret | None = Field(
        None, description="Signs webhooks of runs that bring no secret (whsec_…); none: they have to."
    )
    max_attempts: int = Field(8, ge=1, le=50, description="Attempts before a delivery is given up.")
    retry_seconds: float = Field(
        5.0, gt=0, le=3600, description="Delay after the first attempt; each one after it is longer."
    )
    retry_factor: float = Field(5.0, ge=1, le=100, description="How many times longer.")
    max_retry_seconds: float = Field(
        86_400.0, gt=0, le=604_800, description="Longest delay between two attempts."
    )
    timeout_seconds: float = Field(15.0, gt=0, le=300, description="Longest that one attempt may take.")
    concurrency: int = Field(64, ge=1, le=1000, description="Deliveries in hand at once.")
    concurrency_per_target: int = Field(
        8, ge=1, description="Of those, to one origin of one tenant; one that fails gets one at a time."
    )
    max_output_bytes: int = Field(
        65_536,
        ge=0,
        description="Outputs that are sent along where an endpoint asks for them; larger ones are left out.",
    )
    keep_days: float = Field(30.0, gt=0, description="How long the log keeps deliveries that ended.")


class VectorSettings(Group):
    """The embedded vector database."""

    cache_mib: int = Field(256, ge=1, description="Vectors that it keeps in memory.")


class BreakerSettings(Group):
    """Resting models and databases whose calls fail."""

    enabled: bool = Field(True, description="Whether calls are refused while their callee fails.")
    window_seconds: float = Field(30.0, gt=0, le=3600, description="How far back outcomes count.")
    min_calls: int = Field(10, ge=1, description="Calls in that time below which nothing is concluded.")
    failure_ratio: float = Field(
        0.5, gt=0, le=1, description="Part of them that must fail (server error, timeout, connection)."
    )
    open_seconds: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="How long calls are refused at first; each probe that fails doubles it.",
    )
    max_open_seconds: float = Field(120.0, gt=0, le=86_400, description="Longest that it becomes.")
    probe_seconds: float = Field(
        30.0, gt=0, le=3600, description="After that long without an answer, a probe makes room for another."
    )


class PriceSettings(Group):
    """US dollars per million tokens."""

    input: float = Field(ge=0, allow_inf_nan=False, description="Of what is sent.")
    output: float = Field(0.0, ge=0, allow_inf_nan=False, description="Of answers.")
    cached_input: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="Of what the vendor read from its cache; none: as input."
    )


def _price_name(name: str) -> str:
    instance, _, model = name.partition("/")
    if not instance or not model:
        raise ValueError("write the name as <instance>/<model>, such as openai/gpt-4.1")
    return name


PriceName = Annotated[str, AfterValidator(_price_name)]
"""`<instance or *>/<model>`, or `<instance>/*`."""


class LogSettings(Group):
    """Log lines."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level.")
    format: Literal["json", "console"] = Field("json", description="JSON lines, or text for people.")


class TelemetrySettings(Group):
    """Metrics and traces."""

    metrics: bool = Field(True, description="Count, and serve /metrics.")
    otlp_endpoint: HttpUrl | None = Field(
        None, description="Where spans go (OTLP over HTTP), such as http://collector:4318; none: no spans."
    )
    service_name: str = Field("llm-orchestrator", description="service.name of spans.")


def environment() -> Mapping[str, str]:
    """The variables of this process, for whoever has to check their names."""
    return os.environ


class Settings(BaseSettings):
    """All groups."""

    model_config = SettingsConfigDict(
        env_prefix="ORCHESTRATOR_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    engine: Literal["embedded", "temporal"] = Field(
        "embedded", description="What executes runs: this process, or workers that Temporal places them on."
    )
    data_dir: Path = Field(Path(".orchestrator"), description="Folder of the databases and the lock.")
    server: ServerSettings = ServerSettings()
    runs: RunSettings = RunSettings()
    store: StoreSettings = StoreSettings()
    templates: TemplateSettings = TemplateSettings()
    providers: Annotated[dict[str, ProviderSettings], BeforeValidator(with_default_vendors)] = Field(
        default_factory=dict,
        description='Model providers by name, as a JSON object such as {"eu": {"vendor": "openai", …}}, or a '
        "variable for each setting; adds to those there are anyway.",
    )
    databases: dict[str, DatabaseSettings] = Field(
        default_factory=dict,
        description='Vector databases by name, as a JSON object such as {"main": {"vendor": "qdrant", …}}, '
        "or a variable for each setting; adds to the embedded one.",
    )
    actions: ActionSettings = ActionSettings()
    egress: EgressSettings = EgressSettings()
    webhooks: WebhookSettings = WebhookSettings()
    vectors: VectorSettings = VectorSettings()
    breaker: BreakerSettings = BreakerSettings()
    prices: dict[PriceName, PriceSettings] = Field(
        default_factory=dict,
        description='Prices by instance/model, as a JSON object such as {"openai/gpt-4.1": {"input": 2, '
        '"output": 8}}; they go before the shipped list prices.',
    )
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    temporal: TemporalSettings = TemporalSettings()

    @model_validator(mode="after")
    def _works_together(self) -> Settings:
        if not self.server.is_loopback and not self.server.allow_open:
            raise ValueError(
                f"server.host {self.server.host!r} is reachable from other machines and this version has no "
                "authentication; listen on 127.0.0.1, or set ORCHESTRATOR_SERVER__ALLOW_OPEN=true"
            )
        self.all_providers()
        if EMBEDDED_DATABASE in self.databases:
            raise ValueError(f"{EMBEDDED_DATABASE!r} is the built-in vector database; call yours otherwise")
        return self

    def all_providers(self) -> dict[str, ProviderSettings]:
        """The default instances, overridden and extended by the configured ones.

        The default ones take the variables of their vendor's own clients (`VENDOR_VARIABLES`) where the
        settings do not say otherwise. Raises `ValueError` for a URL that is none.
        """
        return with_vendor_variables({**default_providers(), **self.providers}, os.environ)

    def own_prices(self) -> dict[str, Price]:
        """What the operator pays, by the names of `prices`."""
        return {
            name: Price(rate=per_million(input=it.input, output=it.output, cached_input=it.cached_input))
            for name, it in self.prices.items()
        }

    def all_databases(self) -> frozenset[str]:
        """Names of the vector databases."""
        return frozenset({EMBEDDED_DATABASE, *self.databases})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, file."""
        del env_settings, dotenv_settings, file_secret_settings
        given = sources()
        check_shapes([("command line", init_settings()), *given])
        return init_settings, *(InitSettingsSource(settings_cls, dict(said)) for _, said in given)


def sources() -> Sequence[Source]:
    """What the environment and the file say, in groups; the first that names a value wins.

    Nothing of it is checked against the settings. Raises `ValueError` with what to do.
    """
    path = os.environ.get(CONFIG_VARIABLE)
    file = from_file(Path(path)) if path else {}
    return ("environment", Environment(Settings)()), ("file", file)
