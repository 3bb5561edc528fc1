"""The `vector_upsert` kind: writes records to an index."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.ports.errors import PermanentError
from app.ports.steps import StepContext, StepOutcome
from app.ports.vectors import VectorRecord
from app.steps.base import BaseKind
from app.steps.fields import Name, Vector
from app.steps.kind import StepConfig, Templated

MAX_RECORDS: Final = 10_000


def _number_to_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


RecordId = Annotated[str, Field(min_length=1, max_length=512), BeforeValidator(_number_to_text)]


def _metadata_value(value: Any) -> Any:
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    finite = not isinstance(value, float) or math.isfinite(value)
    if value is None or texts or (isinstance(value, (str, int, float)) and finite):
        return value
    raise PydanticCustomError(
        "metadata_value", "Input should be text, a number, true, false, null or a list of texts"
    )


MetadataValue = Annotated[Any, BeforeValidator(_metadata_value)]


class RecordConfig(StepConfig):
    """One record; a whole number as `id` is taken as text."""

    id: Templated[RecordId]
    """What the record is known by; a record of that id is replaced."""
    vector: Templated[Vector]
    """Numbers."""
    metadata: Templated[dict[str, MetadataValue]] = Field(default_factory=dict)
    """Text, numbers, truth values, null and lists of texts, by name."""


class VectorUpsertConfig(StepConfig):
    """Keys of a `vector_upsert` step."""

    database: Templated[Name]
    """A configured vector database, such as `embedded`."""
    index: Templated[Name]
    """The index. The first record makes it; all its vectors have one length."""
    namespace: Templated[Name] | None = None
    """A part of the index that is kept apart."""
    vectors: Templated[Annotated[list[Templated[RecordConfig]], Field(max_length=MAX_RECORDS)]]
    """Records: `[{id, vector, metadata}]`. `embedded` and `pgvector` write all of them or none; of the others
    a failure may leave a part, which another try writes again."""
    embedding_model: Templated[Name] | None = None
    """The model that made the vectors. If absent: that of the `embed` steps they come from, where the
    document says so. An index holds vectors of one model."""


class VectorUpsertKind(BaseKind):
    """Inserts or replaces records by id.

    Outputs: `count`, the records written. No records is no call and a count of 0. Two records with one
    id, or vectors of different lengths, are refused before anything is sent.
    """

    name: ClassVar[str] = "vector_upsert"
    config_model: ClassVar[type[StepConfig]] = VectorUpsertConfig
    outputs: ClassVar[tuple[str, ...]] = ("count",)

    async def execute(self, config: VectorUpsertConfig, context: StepContext) -> StepOutcome:
        """Write once. Raises what the vector store raises, and `PermanentError("invalid_request")`."""
        store = context.services.vectors(config.database)
        records = _records(config)
        count = 0
        if records:
            count = await store.upsert(
                config.index,
                records,
                namespace=config.namespace,
                context=context.call,
                model=config.embedding_model or context.embedding_model,
            )
        return StepOutcome(outputs={"count": count})


def _records(config: VectorUpsertConfig) -> list[VectorRecord]:
    seen: set[str] = set()
    for record in config.vectors:
        if record.id in seen:
            raise PermanentError(
                "invalid_request", f"two records have the id {record.id!r}; give each an id of its own"
            )
        seen.add(record.id)
        expected = len(config.vectors[0].vector)
        if len(record.vector) != expected:
            raise PermanentError(
                "invalid_request",
                f"the vector of {record.id!r} has {len(record.vector)} numbers, the first one has "
                f"{expected}; embed all of them with the same model",
            )
    return [
        VectorRecord(id=record.id, vector=record.vector, metadata=record.metadata)
        for record in config.vectors
    ]
