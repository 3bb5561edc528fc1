"""Settings of the instances of vendors, one class each: model providers and vector databases.

A vendor is one class here, its tag in the union, and its case in `app.configuration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, model_validator

from app.ports.vectors import Metric
from app.providers.openai.dialect import EmbeddingFormat, StructuredOutputs
from app.settings_fields import ApiKey, BaseUrl, Dsn, Headers


class Group(BaseModel):
    """Base of the groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)


LimitKey = Annotated[str, Field(pattern=r"^[A-Za-z_]{1,64}$")]


class LimitSettings(Group):
    """Bounds on the calls to one model of an instance."""

    max_concurrency: int | None = Field(None, ge=1, description="Calls in flight at once; none: no bound.")
    requests_per_minute: int | None = Field(None, ge=1, description="Calls a minute; none: no bound.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens a minute; none: no bound.")


class InstanceSettings(Group):
    """What the instances of all vendors have in common."""

    api_key: ApiKey | None = Field(None, description="The key of the instance.")
    headers: Headers = Field(
        default_factory=dict, description="Further headers, as a JSON object; their values count as secrets."
    )
    timeout_seconds: float = Field(120.0, gt=0, description="Longest that one call may take.")
    max_concurrency: int = Field(256, ge=1, description="Calls to this instance in flight at once.")
    requests_per_minute: int | None = Field(None, ge=1, description="Calls a minute; none: no bound.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens a minute; none: no bound.")
    models: dict[str, LimitSettings] = Field(
        default_factory=dict, description="Bounds on single models, as a JSON object by model."
    )


class CompletionsSettings(InstanceSettings):
    """What the instances have in common that speak OpenAI's format."""

    structured_outputs: StructuredOutputs = Field(
        "json_schema",
        description="Who holds answers to a schema: the server; json_object: the server to JSON, the prompt "
        "to the schema; the prompt alone; none: nobody. The step checks the answer all the same.",
    )
    embedding_format: EmbeddingFormat = Field(
        "base64", description="How vectors are asked for; some servers know only float."
    )


class OpenAISettings(CompletionsSettings):
    """An instance of the OpenAI API, or of a server that speaks it."""

    vendor: Literal["openai"] = Field("openai", description="The instance speaks OpenAI's API.")
    base_url: BaseUrl = Field("https://api.openai.com/v1", description="Everything before /chat/completions.")
    organization: str | None = Field(None, description="OpenAI-Organization header.")
    project: str | None = Field(None, description="OpenAI-Project header.")
    max_tokens_key: LimitKey | None = Field(
        None, description="What the server calls max_tokens; none: as OpenAI's model or most servers have it."
    )


class AzureSettings(CompletionsSettings):
    """A resource of Azure OpenAI."""

    vendor: Literal["azure"] = Field("azure", description="The instance is a resource of Azure OpenAI.")
    base_url: BaseUrl = Field(description="Everything before /openai: https://<resource>.openai.azure.com.")
    api: Literal["deployments", "v1"] = Field(
        "deployments", description="Which surface is called: /openai/deployments/… or /openai/v1."
    )
    api_version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.-]+$",
        description="The api-version of calls; none: 2024-10-21 for deployments, not sent to v1.",
    )
    deployments: dict[str, str] = Field(
        default_factory=dict,
        description="Deployments, as a JSON object by model; one that is not there is its own deployment.",
    )
    auth: Literal["api_key", "bearer"] = Field(
        "api_key", description="Where the key goes: the api-key header, or as a bearer token."
    )
    max_tokens_key: LimitKey | None = Field(
        None, description="What deployments call max_tokens; none: what the model wants, by its name."
    )


class MistralSettings(CompletionsSettings):
    """An instance of Mistral's API."""

    vendor: Literal["mistral"] = Field("mistral", description="The instance speaks Mistral's API.")
    base_url: BaseUrl = Field("https://api.mistral.ai", description="Everything before /v1/chat/completions.")
    embedding_format: EmbeddingFormat = Field("float", description="How vectors are asked for.")


class AnthropicSettings(InstanceSettings):
    """An instance of Anthropic's Messages API, or of a server that speaks it."""

    vendor: Literal["anthropic"] = Field("anthropic", description="The instance speaks Anthropic's API.")
    base_url: BaseUrl = Field("https://api.anthropic.com", description="Everything before /v1/messages.")
    default_max_tokens: int = Field(
        4096, ge=1, description="max_tokens of calls that set none; the vendor asks for one."
    )
    cache_system: bool = Field(
        False,
        description="Let the vendor cache the system prompt: the first call costs more, later ones less.",
    )
    structured_outputs: Literal["native", "prompt"] = Field(
        "native",
        description="Who holds answers to a schema: the vendor, or the prompt, for models that cannot.",
    )


class CohereSettings(InstanceSettings):
    """An instance of Cohere's API."""

    vendor: Literal["cohere"] = Field("cohere", description="The instance speaks Cohere's API.")
    base_url: BaseUrl = Field("https://api.cohere.com", description="Everything before /v2/chat.")
    input_type: Literal["search_document", "search_query", "classification", "clustering"] = Field(
        "search_document", description="What texts are embedded for when their step names no input_type."
    )
    truncate: Literal["NONE", "START", "END"] = Field(
        "END", description="Which end of a text too long to embed is cut off; NONE: it is an error."
    )


class RerankServerSettings(InstanceSettings):
    """A server that reranks."""

    vendor: Literal["rerank"] = Field("rerank", description="The instance is a server that reranks.")
    base_url: BaseUrl = Field("http://localhost:8080", description="Everything before /rerank.")
    shape: Literal["cohere", "tei"] = Field(
        "cohere", description="cohere (also Jina, vLLM, llama.cpp), or tei: Text Embeddings Inference."
    )
    max_documents: int = Field(1000, ge=1, description="Documents that the server takes in one call.")


class GeminiSettings(InstanceSettings):
    """An instance of Google's Gemini API."""

    vendor: Literal["gemini"] = Field("gemini", description="The instance speaks Google's Gemini API.")
    base_url: BaseUrl = Field(
        "https://generativelanguage.googleapis.com/v1beta", description="Everything before /models."
    )


class OllamaSettings(InstanceSettings):
    """A server of Ollama."""

    vendor: Literal["ollama"] = Field("ollama", description="The instance speaks Ollama's own API.")
    base_url: BaseUrl = Field("http://localhost:11434", description="Everything before /api/chat.")


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
    | Annotated[AzureSettings, Tag("azure")]
    | Annotated[MistralSettings, Tag("mistral")]
    | Annotated[AnthropicSettings, Tag("anthropic")]
    | Annotated[CohereSettings, Tag("cohere")]
    | Annotated[RerankServerSettings, Tag("rerank")]
    | Annotated[GeminiSettings, Tag("gemini")]
    | Annotated[OllamaSettings, Tag("ollama")]
    | Annotated[EchoSettings, Tag("echo")]
    | Annotated[LocalSettings, Tag("local")],
    Discriminator(
        _vendor,
        custom_error_type="vendor",
        custom_error_message="vendor must be openai (also for servers that speak its API), azure, mistral, "
        "anthropic, cohere, rerank, gemini, ollama, echo or local",
    ),
]


class VectorDatabaseSettings(Group):
    """What the databases of all vendors have in common."""

    max_concurrency: int = Field(256, ge=1, description="Calls to this database in flight at once.")


class QdrantSettings(VectorDatabaseSettings):
    """A Qdrant server."""

    vendor: Literal["qdrant"] = Field("qdrant", description="The database is Qdrant.")
    api_key: ApiKey | None = Field(None, description="Sent in the api-key header.")
    base_url: BaseUrl = Field("http://localhost:6333", description="Where its REST API is.")
    metric: Metric = Field("cosine", description="How nearness is measured in the collections it makes.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that one request may take.")


class PineconeSettings(VectorDatabaseSettings):
    """A project of Pinecone."""

    vendor: Literal["pinecone"] = Field("pinecone", description="The database is Pinecone.")
    api_key: ApiKey | None = Field(None, description="Sent in the Api-Key header.")
    base_url: BaseUrl = Field(
        "https://api.pinecone.io", description="Where the control plane is, which names the hosts of indexes."
    )
    index_hosts: dict[str, BaseUrl] = Field(
        default_factory=dict,
        description="Base URLs of single indexes, as a JSON object by index: emulators, private endpoints.",
    )
    cloud: Literal["aws", "gcp", "azure"] | None = Field(
        None, description="Where a missing index is made at its first upsert; none: it is not made."
    )
    region: str | None = Field(None, description="The region of that cloud, such as us-east-1.")
    metric: Metric = Field("cosine", description="How nearness is measured in the indexes it makes.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that one request may take.")

    @model_validator(mode="after")
    def _works_together(self) -> PineconeSettings:
        if (self.cloud is None) != (self.region is None):
            raise ValueError("cloud and region are set together or not at all")
        return self


class WeaviateSettings(VectorDatabaseSettings):
    """A Weaviate server."""

    vendor: Literal["weaviate"] = Field("weaviate", description="The database is Weaviate.")
    api_key: ApiKey | None = Field(None, description="Sent as a bearer token.")
    base_url: BaseUrl = Field("http://localhost:8080", description="Everything before /v1.")
    metric: Metric = Field("cosine", description="How nearness is measured in the collections it makes.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that one request may take.")


class ChromaSettings(VectorDatabaseSettings):
    """A database of a Chroma server."""

    vendor: Literal["chroma"] = Field("chroma", description="The database is Chroma.")
    api_key: ApiKey | None = Field(None, description="Sent in api_key_header.")
    api_key_header: Literal["x-chroma-token", "authorization"] = Field(
        "x-chroma-token", description="Where the key goes; authorization: as a bearer token."
    )
    base_url: BaseUrl = Field("http://localhost:8000", description="Everything before /api/v2.")
    tenant: str = Field("default_tenant", min_length=1, description="The tenant on the server.")
    database: str = Field("default_database", min_length=1, description="The tenant's database.")
    metric: Metric = Field("cosine", description="How nearness is measured in the collections it makes.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that one request may take.")


class PgVectorSettings(VectorDatabaseSettings):
    """A PostgreSQL database with the extension pgvector."""

    vendor: Literal["pgvector"] = Field(
        "pgvector", description="The database is PostgreSQL with the extension pgvector."
    )
    dsn: Dsn | None = Field(
        None,
        description="Where it is: postgresql://user:password@host:port/database?sslmode=require; none: what "
        "host, port, user, password, database and ssl say.",
    )
    host: str = Field("localhost", min_length=1, description="Its host, or the folder of a Unix socket.")
    port: int = Field(5432, ge=1, le=65535, description="Its port.")
    user: str = Field("postgres", min_length=1, description="Who signs in.")
    password: SecretStr | None = Field(None, description="The password of that user.")
    database: str = Field("postgres", min_length=1, description="The database on the server.")
    ssl: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="Whether connections are encrypted, and what of the certificate is checked."
    )
    schema_name: str = Field(
        "orchestrator_vectors",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        description="The schema that holds the indexes; made with the first one if it is not there.",
    )
    metric: Metric = Field("cosine", description="How nearness is measured in the indexes it makes.")
    index: Literal["none", "hnsw"] = Field(
        "none", description="How the indexes it makes are searched: none: exactly; hnsw: faster, nearly so."
    )
    ef_search: int = Field(
        100, ge=1, le=1000, description="Candidates of a search with hnsw: more are slower and more exact."
    )
    words_index: bool = Field(
        False,
        description="Index the words of metadata too, in the indexes it makes: hybrid searches get faster, "
        "upserts slower.",
    )
    pool_size: int = Field(10, ge=1, le=1000, description="Most connections at once.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that connecting and checks may take.")
    statement_timeout_seconds: float = Field(
        60.0, ge=0.001, description="After that time the server gives a statement up, whoever waits for it."
    )


def _database_vendor(value: Any) -> Any:
    return value.get("vendor") if isinstance(value, Mapping) else getattr(value, "vendor", None)


DatabaseSettings = Annotated[
    Annotated[QdrantSettings, Tag("qdrant")]
    | Annotated[PineconeSettings, Tag("pinecone")]
    | Annotated[WeaviateSettings, Tag("weaviate")]
    | Annotated[ChromaSettings, Tag("chroma")]
    | Annotated[PgVectorSettings, Tag("pgvector")],
    Discriminator(
        _database_vendor,
        custom_error_type="vendor",
        custom_error_message="vendor must be qdrant, pinecone, weaviate, chroma or pgvector",
    ),
]
