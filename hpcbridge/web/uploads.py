"""``ENDPOINT/uploads``: files that users send for their applications to open.

Their bodies are no requests to the launcher: ``server.max_body`` does not count for them.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect

from hpcbridge.auth.identity import Identity, Scope
from hpcbridge.config.uploads import MIB
from hpcbridge.errors import RequestError
from hpcbridge.files.uploads import NAME, UploadedFile
from hpcbridge.sessions.uploads import Uploads
from hpcbridge.web.access import Access
from hpcbridge.web.responses import ERRORS, NOT_FOUND, ErrorReply


class FileReply(BaseModel):
    """An uploaded file."""

    name: str
    size: int = Field(description="Bytes.")
    modified: float = Field(description="Seconds since the epoch.")


class FilesReply(BaseModel):
    """The uploaded files of who asks, by name, and what they may have."""

    files: list[FileReply]
    file_limit: int = Field(description="Bytes of one file.")
    total_limit: int = Field(description="Bytes of all files.")
    count_limit: int = Field(description="How many there may be.")


class _AnyText(Convertor[str]):
    """The rest of a path, whatever it is: wrong names are answered with what a name must be."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anytext", _AnyText())
_ONE = "/uploads/{name:anytext}"
# What is wrong with a name is told in our own words.
Name = Annotated[
    str,
    Path(
        description="The file's name.",
        json_schema_extra={"pattern": f"^{NAME.pattern}$", "maxLength": 128},
    ),
]
_PUT: dict[int | str, dict[str, Any]] = {
    200: {"model": FileReply, "description": "It took another file's place."},
    409: {"model": ErrorReply, "description": "There is a file of this name."},
    507: {"model": ErrorReply, "description": "The disk, or the user's share of it, is full."},
}
_BODY = {
    "requestBody": {
        "required": False,
        "description": "The file itself, as it is; without a body, an empty one.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def router(uploads: Uploads, access: Access) -> APIRouter:
    """The paths, to be put below the endpoint."""
    found = APIRouter(tags=["uploads"], responses=ERRORS)

    def may(scope: Scope) -> Any:
        async def who(request: Request) -> Identity:
            return await access.who(request, scope)

        return Depends(who)

    @found.get("/uploads", response_description="The files, and how many there may be.")
    async def files(who: Annotated[Identity, may(Scope.READ)]) -> FilesReply:
        """The uploaded files of who asks."""
        settings = uploads.settings
        return FilesReply(
            files=[_reply(each) for each in await uploads.files(who.user)],
            file_limit=settings.file_limit * MIB,
            total_limit=settings.total_limit * MIB,
            count_limit=settings.count_limit,
        )

    @found.put(
        _ONE,
        status_code=201,
        response_description="It is there.",
        responses=_PUT,
        openapi_extra=_BODY,
    )
    async def put(
        name: Name,
        request: Request,
        response: Response,
        who: Annotated[Identity, may(Scope.LAUNCH)],
        replace: Annotated[bool, Query(description="Whether it may take another's place.")] = False,
    ) -> FileReply:
        """Receive a file, whole or not at all."""
        with access.recorded("upload", request, who, file=name) as facts:
            stored, replaced = await uploads.receive(
                name, who.user, _content(request), length=_length(request), replace=replace
            )
            facts |= {"size": stored.size, "replaced": replaced or None}
        response.status_code = 200 if replaced else 201
        return _reply(stored)

    @found.delete(_ONE, response_description="The file as it was.", responses=NOT_FOUND)
    async def delete(
        name: Name, request: Request, who: Annotated[Identity, may(Scope.LAUNCH)]
    ) -> FileReply:
        """Remove a file."""
        with access.recorded("delete upload", request, who, file=name):
            return _reply(await uploads.remove(name, who.user))

    return found


def _reply(found: UploadedFile) -> FileReply:
    return FileReply(name=found.name, size=found.size, modified=found.modified)


def _length(request: Request) -> int | None:
    given = request.headers.get("content-length")
    return int(given) if given and given.isascii() and given.isdigit() else None


async def _content(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect as error:
        raise RequestError("The client hung up in the middle of its upload.") from error
