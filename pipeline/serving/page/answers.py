"""Answers: what the page's endpoints answer over HTTP: its files, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pipeline.errors import KserveError
from pipeline.kserve.model import Model
from pipeline.serving.catalogue import Catalogue
from pipeline.serving.openapi import document
from pipeline.serving.page.assets import HEADERS, INDEX, assets, is_known, tag_of, wants_page
from pipeline.serving.settings import Settings

__all__ = ["PageAnswers", "page_file"]

_JSON = "application/json"
#: What callers get at `/` that are no browsers. It tells nothing that needs the token.
_WELCOME = {"name": "trtlab", "page": "/", "openapi": "/openapi.json", "v2": "/v2"}


class PageAnswers:
    """The answers, by the names of `endpoints.ENDPOINTS`."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue

    @property
    def by_name(self) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
        return {"page": self._page, "asset": self._asset, "openapi": self._openapi}

    async def _page(self, request: Request) -> Response:
        if wants_page(request.headers.get("accept", "")):
            return page_file(request, INDEX, {"vary": "Accept"})
        return _tagged(request, msgspec.json.encode(_WELCOME), _JSON, {"vary": "Accept"})

    async def _asset(self, request: Request) -> Response:
        return page_file(request, request.path_params["asset"])

    async def _openapi(self, request: Request) -> Response:
        models: list[Model] = []
        for served in await self._catalogue.all_served():
            try:
                models.append(served.model)
            except KserveError:
                # Its pipeline has not started yet.
                continue
        from importlib import metadata  # parsers of mail and of archives, which no start should wait for

        found = document(models, metadata.version("trtlab"), token=bool(self._settings.token))
        return _tagged(request, msgspec.json.encode(found), _JSON)


def page_file(request: Request, name: str, more: Mapping[str, str] = {}) -> Response:
    """A file of the page.

    Raises:
        KserveError: there is none of that name (NOT_FOUND).
    """
    found = assets().get(name)
    if found is None:
        raise KserveError(f"expected one of {', '.join(sorted(assets()))}, found {name[:100]!r}", "NOT_FOUND")
    return _tagged(request, found.content, found.media_type, {**HEADERS, **more})


def _tagged(request: Request, content: bytes, media_type: str, more: Mapping[str, str] = {}) -> Response:
    """The content, or that the caller has it already. Callers ask each time: another version may be served by now."""
    tag = tag_of(content)
    headers = {"etag": tag, "cache-control": "no-cache", **more}
    if is_known(tag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
