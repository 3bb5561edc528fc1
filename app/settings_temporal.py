"""Settings of the Temporal engine: where the cluster is, how to get in, what a worker takes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints, model_validator

from app.settings_fields import HostPort
from app.settings_providers import Group

QueueName = Annotated[str, StringConstraints(min_length=1)]
LabelIs = Annotated[str, StringConstraints(pattern=r"^[^=]+=")]
"""A label and its value, as in `tier=gpu`."""


class TemporalSettings(Group):
    """The Temporal cluster that places runs on workers (engine: temporal)."""

    address: HostPort = Field("127.0.0.1:7233", description="Host and port of the cluster's frontend.")
    namespace: str = Field("default", description="Namespace of the runs.")
    task_queue: QueueName = Field(
        "llm-orchestrator", description="Queue of runs without one of their own, and of workers."
    )
    tenant_queues: dict[str, QueueName] = Field(
        default_factory=dict, description="Queues by tenant, as a JSON object; they go before label_queues."
    )
    label_queues: dict[LabelIs, QueueName] = Field(
        default_factory=dict, description='Queues by label, as a JSON object such as {"tier=gpu": "gpu"}.'
    )
    max_runs: int = Field(200, ge=1, description="Runs that one worker executes at once.")
    heartbeat_seconds: float = Field(
        5.0, ge=1, le=600, description="A worker that is silent for that long loses its runs to another."
    )
    tls: bool = Field(False, description="Connect with TLS; an API key and the files below imply it.")
    tls_ca: Path | None = Field(None, description="PEM file of the authority that signed the server.")
    tls_certificate: Path | None = Field(None, description="PEM file of the client certificate (mTLS).")
    tls_key: Path | None = Field(None, description="PEM file of its private key.")
    tls_server_name: str | None = Field(None, description="Name on the server's certificate.")
    api_key: SecretStr | None = Field(None, description="API key of Temporal Cloud.")
    metrics_address: HostPort | None = Field(
        None,
        description="host:port where a worker serves the SDK's own metrics for Prometheus; none: nowhere.",
    )
    health_host: str = Field("127.0.0.1", description="Address where a worker answers probes.")
    health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port where a worker serves /healthz, /readyz and /metrics; 0 takes a free one; none: "
        "it listens on nothing.",
    )
    deployment: str | None = Field(
        None, description="Name of the versioned worker deployment; none: workers are not versioned."
    )
    build_id: str | None = Field(None, description="Version of this worker within the deployment.")

    @model_validator(mode="after")
    def _works_together(self) -> TemporalSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("temporal.tls_certificate and temporal.tls_key are set together or not at all")
        if (self.deployment is None) != (self.build_id is None):
            raise ValueError("temporal.deployment and temporal.build_id are set together or not at all")
        return self

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        files = (self.tls_ca, self.tls_certificate, self.tls_server_name)
        return self.tls or self.api_key is not None or any(it is not None for it in files)
