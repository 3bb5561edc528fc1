"""Everything an operator can set, grouped, checked at start, and read by the entry points only.

Sources, the first that names a value wins: command line, environment (`ORCHESTRATOR_SERVER__PORT`),
the YAML file named by `ORCHESTRATOR_CONFIG`, the defaults below. A name that does not exist is an error
(`app.settings_table` finds those that pydantic-settings passes over).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.settings_fields import BaseUrl, Headers, HostNames, HttpUrl, Listed, base_url

CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"


class Group(BaseModel):
    """Base of the groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class TemplateSettings(Group):
    """Bounds on one render."""

    max_output_chars: int = Field(4_000_000, ge=1000, description="Text that one render may produce.")
    timeout_seconds: float = Field(2.0, gt=0, description="Time that a render in a worker may take.")
    memory_mib: int = Field(256, ge=32, description="Memory that a render in a worker may take.")
    workers: int = Field(1, ge=1, description="Worker processes for templates that are not plainly linear.")


class OpenAISettings(Group):
    """An instance of the OpenAI API, or of a server that speaks it."""

    vendor: Literal["openai"] = Field("openai", description="The instance speaks OpenAI's API.")
    api_key: SecretStr | None = Field(None, description="Sent as a bearer token.")
    base_url: BaseUrl = Field("https://api.openai.com/v1", description="Everything before /chat/completions.")
    organization: str | None = Field(None, description="OpenAI-Organization header.")
    project: str | None = Field(None, description="OpenAI-Project header.")
    headers: Headers = Field(
        default_factory=dict, description="Further headers, as a JSON object; their values count as secrets."
    )
    embedding_format: Literal["base64", "float"] = Field(
        "base64", description="How vectors are asked for; some servers know only float."
    )
    max_concurrency: int = Field(256, ge=1, description="Calls to this instance in flight at once.")
    timeout_seconds: float = Field(120.0, gt=0, description="Longest that one call may take.")


class EchoSettings(Group):
    """Answers with what it was asked; for tests."""

    vendor: Literal["echo"] = Field("echo", description="The instance repeats what it is told.")
    latency_ms: float = Field(0.0, ge=0, description="Time that an answer takes.")


class LocalSettings(Group):
    """The packaged models of the `local` extra."""

    vendor: Literal["local"] = Field("local", description="The instance runs the packaged models.")
    threads: int | None = Field(
        None, ge=1, description="Threads of the LLM process; none: all cores but one, at most four."
    )
    max_concurrency: int = Field(2, ge=1, description="Completions in flight at once.")


def _vendor(value: Any) -> Any:
    """The vendor of an instance; most instances speak OpenAI's API, so it need not be named."""
    if isinstance(value, Mapping):
        return value.get("vendor", "openai")
    return getattr(value, "vendor", None)


ProviderSettings = Annotated[
    Annotated[OpenAISettings, Tag("openai")]
    | Annotated[EchoSettings, Tag("echo")]
    | Annotated[LocalSettings, Tag("local")],
    Discriminator(
        _vendor,
        custom_error_type="vendor",
        custom_error_message="vendor must be openai (also for servers that speak its API), echo or local",
    ),
]


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


class VectorSettings(Group):
    """The embedded vector database."""

    cache_mib: int = Field(256, ge=1, description="Vectors that it keeps in memory.")


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


def default_providers() -> dict[str, ProviderSettings]:
    """The instances there are when nothing is configured."""
    return {"openai": OpenAISettings(), "local": LocalSettings(), "echo": EchoSettings()}


class Settings(BaseSettings):
    """All groups."""

    model_config = SettingsConfigDict(
        env_prefix="ORCHESTRATOR_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    data_dir: Path = Field(Path(".orchestrator"), description="Folder of the databases and the lock.")
    server: ServerSettings = ServerSettings()
    runs: RunSettings = RunSettings()
    templates: TemplateSettings = TemplateSettings()
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict, description="Model providers by name; adds to openai, local and echo."
    )
    actions: ActionSettings = ActionSettings()
    egress: EgressSettings = EgressSettings()
    vectors: VectorSettings = VectorSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="after")
    def _works_together(self) -> Settings:
        if not self.server.is_loopback and not self.server.allow_open:
            raise ValueError(
                f"server.host {self.server.host!r} is reachable from other machines and this version has no "
                "authentication; listen on 127.0.0.1, or set ORCHESTRATOR_SERVER__ALLOW_OPEN=true"
            )
        self.all_providers()
        return self

    def all_providers(self) -> dict[str, ProviderSettings]:
        """The default instances, overridden and extended by the configured ones.

        The default `openai` instance takes `OPENAI_API_KEY` and `OPENAI_BASE_URL`, as OpenAI's own
        clients do, where the settings do not say otherwise. Raises `ValueError` for a URL that is none.
        """
        providers = {**default_providers(), **self.providers}
        openai = providers["openai"]
        if isinstance(openai, OpenAISettings):
            providers["openai"] = _from_vendor_variables(openai)
        return providers

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
        path = os.environ.get(CONFIG_VARIABLE)
        if not path:
            return init_settings, env_settings
        return init_settings, env_settings, InitSettingsSource(settings_cls, _from_file(Path(path)))


def _from_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file. Raises `ValueError` with what to do."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"the file {str(path)!r} of {CONFIG_VARIABLE} cannot be read: {error.strerror}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        place = f" (line {where.line + 1}, column {where.column + 1})" if where else ""
        raise ValueError(f"the file {str(path)!r} of {CONFIG_VARIABLE} is not valid YAML{place}") from error
    if isinstance(content, dict | None):
        return content or {}
    raise ValueError(f"the file {str(path)!r} of {CONFIG_VARIABLE} must hold groups such as server: {{…}}")


def _from_vendor_variables(openai: OpenAISettings) -> OpenAISettings:
    """Fill in what the settings leave open. Raises `ValueError` for a base URL that is none."""
    changes: dict[str, object] = {}
    if "api_key" not in openai.model_fields_set and (key := os.environ.get("OPENAI_API_KEY")):
        changes["api_key"] = SecretStr(key)
    if "base_url" not in openai.model_fields_set and (url := os.environ.get("OPENAI_BASE_URL")):
        changes["base_url"] = _openai_base_url(url)
    return openai.model_copy(update=changes)


def _openai_base_url(url: str) -> str:
    try:
        return base_url(url)
    except ValueError as error:
        raise ValueError(f"OPENAI_BASE_URL {error}") from None
