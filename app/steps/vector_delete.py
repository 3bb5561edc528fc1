"""The `vector_delete` kind: removes records from an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.ports.problems import Problem
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.fields import Flag, Name
from app.steps.filters import filter_problems
from app.steps.kind import StepConfig, Templated
from app.steps.vector_upsert import RecordId

MAX_IDS: Final = 10_000


class VectorDeleteConfig(StepConfig):
    """Keys of a `vector_delete` step: exactly one of `ids`, `filter` and `delete_all: true`."""

    database: Templated[Name]
    """A configured vector database, such as `embedded`."""
    index: Templated[Name]
    """The index. The first record makes it; all its vectors have one length."""
    namespace: Templated[Name] | None = None
    """A part of the index that is kept apart."""
    ids: Templated[Annotated[list[RecordId], Field(max_length=MAX_IDS)]] | None = None
    """Records to remove."""
    filter: Templated[Annotated[dict[str, Any], Field(min_length=1)]] | None = None
    """What the metadata of a record that goes must be like."""
    delete_all: Templated[Flag] | None = None
    """`true` empties the namespace."""

    @model_validator(mode="after")
    def _one_selection(self) -> VectorDeleteConfig:
        # Values that render to null select nothing, so a missing filter never widens to everything.
        given = [self.ids is not None, self.filter is not None, self.delete_all not in (None, False)]
        if given.count(True) != 1:
            raise PydanticCustomError(
                "one_selection", "Give exactly one of 'ids', 'filter' and 'delete_all: true'"
            )
        return self


class VectorDeleteKind(BaseKind):
    """Deletes by ids, by filter, or everything in the namespace.

    Outputs: `count`, the records that went. An empty list of ids is no call and a count of 0.
    """

    name: ClassVar[str] = "vector_delete"
    config_model: ClassVar[type[StepConfig]] = VectorDeleteConfig
    outputs: ClassVar[tuple[str, ...]] = ("count",)

    def check(self, config: VectorDeleteConfig) -> Iterable[Problem]:
        """Filter operators."""
        return filter_problems(config.filter, "filter")

    async def execute(self, config: VectorDeleteConfig, context: StepContext) -> StepOutcome:
        """Delete once. Raises what the vector store raises."""
        store = context.services.vectors(config.database)
        count = 0
        if config.ids != []:
            count = await store.delete(
                config.index,
                ids=config.ids,
                filter=config.filter,
                delete_all=bool(config.delete_all),
                namespace=config.namespace,
                context=context.call,
            )
        return StepOutcome(outputs={"count": count})
