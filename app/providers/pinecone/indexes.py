"""Where the indexes of one Pinecone project are: asked of the control plane once, then remembered.

Every index has a host of its own. The key goes to the control plane, to the hosts that it names (over
https, or over whatever the control plane itself is reached by, where it is the same machine), and to the
hosts that the operator sets; nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote, urlsplit

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vector_checks import check_index, invalid, unknown_index
from app.ports.vectors import Metric
from app.providers.json_api import Endpoint
from app.providers.json_format import Malformed, VendorError, objects, text
from app.providers.pinecone import format as fmt
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

INDEX_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,43}[a-z0-9])?")
HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?")
OFFICIAL_DOMAIN: Final = ".pinecone.io"
SECONDS_UNTIL_READY: Final = 5.0
_CONFLICT: Final = 409
_TOO_MANY: Final = 429
_USED_UP: Final = re.compile(r"current month", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One index and the API of its host."""

    name: str
    host: str
    dimensions: int
    metric: Metric
    api: VendorApi


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where new indexes are made, as serverless ones."""

    cloud: str
    region: str
    metric: Metric = "cosine"


@dataclass(slots=True, kw_only=True)
class Indexes:
    """The indexes of one project. `hosts` are set by the operator and are not asked for."""

    transport: Transport
    control: Endpoint
    hosts: Mapping[str, str] = field(default_factory=dict)
    placement: Placement | None = None
    _known: dict[str, Index] = field(default_factory=dict)

    async def find(self, name: str, context: CallContext) -> Index:
        """An index, as it was when it was last asked for. Raises `not_found` where there is none."""
        return self._known.get(name) or await self.refreshed(name, context)

    async def refreshed(self, name: str, context: CallContext) -> Index:
        """An index as it is now."""
        self.forget(name)
        check_index(name)
        if not INDEX_NAME.fullmatch(name):
            raise invalid(
                f"Pinecone has no index names like {name!r}; use 1 to 45 lower case letters, digits and "
                "hyphens between them"
            )
        found = await self._at_own_host(name, context) or await self._named(name, context)
        self._known[name] = found
        return found

    async def find_or_create(self, name: str, dimensions: int, context: CallContext) -> Index:
        """An index, made first where there is none and the operator says where."""
        try:
            return await self.find(name, context)
        except PermanentError as error:
            if error.error_class != "not_found":
                raise
            if self.placement is None:
                raise PermanentError(
                    "not_found",
                    f"there is no vector index {name!r} in database {self.control.instance!r}; create one "
                    f"with {dimensions} dimensions, or ask the operator to set 'cloud' and 'region'",
                ) from None
        await self._create(name, dimensions, self.placement, context)
        return await self.refreshed(name, context)

    def forget(self, name: str) -> None:
        """Ask again the next time."""
        self._known.pop(name, None)

    async def names(self, context: CallContext) -> list[str]:
        """The indexes of the project."""
        answer = await self._api(self.control.base_url).call("GET", "/indexes", None, context)
        return [text(index, "name") for index in objects(answer.get("indexes"))]

    async def _at_own_host(self, name: str, context: CallContext) -> Index | None:
        url = self.hosts.get(name)
        if url is None:
            return None
        api = self._api(url)
        answer = await api.post("/describe_index_stats", b"{}", context)
        metric = api.read(fmt.read_metric, answer)
        dimensions = fmt.read_dimensions(answer)
        return Index(name=name, host=url, dimensions=dimensions, metric=metric, api=api)

    async def _named(self, name: str, context: CallContext) -> Index:
        control = self._api(self.control.base_url)
        try:
            answer = await control.call("GET", f"/indexes/{quote(name, safe='')}", None, context)
        except PermanentError as error:
            if error.error_class != "not_found":
                raise
            raise await self._unknown(name, context) from None
        status = answer.get("status")
        if not isinstance(status, dict) or status.get("ready") is not True:
            raise TemporaryError(
                "server_error",
                f"index {name!r} of database {self.control.instance!r} is not ready yet; try again",
                retry_after=SECONDS_UNTIL_READY,
            )
        url = control.read(self._url, text(answer, "host"))
        return Index(
            name=name,
            host=url,
            dimensions=fmt.read_dimensions(answer),
            metric=control.read(fmt.read_metric, answer),
            api=self._api(url),
        )

    async def _create(self, name: str, dimensions: int, placement: Placement, context: CallContext) -> None:
        body = fmt.create_body(
            name,
            dimensions=dimensions,
            metric=placement.metric,
            cloud=placement.cloud,
            region=placement.region,
        )
        try:
            await self._api(self.control.base_url).post("/indexes", body, context)
        except CallError as error:
            if error.status != _CONFLICT:  # another upsert made it in the meantime
                raise

    async def _unknown(self, name: str, context: CallContext) -> PermanentError:
        """Says which name may have been meant, if the key may list them."""
        try:
            names = await self.names(context)
        except CallError:
            names = []
        return unknown_index(name, names)

    def _url(self, host: str) -> str:
        """The base URL of a host that the control plane names."""
        if not HOST.fullmatch(host):
            raise Malformed("the control plane names no host for the index")
        control = urlsplit(self.control.base_url)
        same_machine = host.partition(":")[0] == control.hostname
        return f"{control.scheme if same_machine else 'https'}://{host}"

    def _api(self, url: str) -> VendorApi:
        official = (urlsplit(self.control.base_url).hostname or "").endswith(OFFICIAL_DOMAIN)
        if official and not any(it.secret.get_secret_value() for it in self.control.credentials):
            raise PermanentError(
                "authentication",
                f"database {self.control.instance!r} has no API key; ask the operator to configure one",
            )
        endpoint = replace(self.control, base_url=url)
        return VendorApi(self.transport, endpoint, read_error=fmt.read_error, classify=classify)


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`. What is used up for the month does not come back by trying again."""
    used_up = error.code == "QUOTA_EXCEEDED" or (status == _TOO_MANY and _USED_UP.search(error.message))
    return "rate_limit" if used_up else None
