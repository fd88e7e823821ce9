"""The OpenAPI document: what FastAPI makes of the routes, with what holds for all of them.

That is an example for every answer, the form of errors for who asks for RFC 9457, the id of the
request, and how one proves who asks.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from hpcbridge.config.settings import Settings
from hpcbridge.web.examples import ERRORS, LAUNCH, REPLIES
from hpcbridge.web.replies import PROBLEM, REQUEST_ID

JSON = "application/json"
_PROBLEM_REPLY = {
    "type": "object",
    "title": "Problem",
    "description": "An error as RFC 9457 has it; what else the reply tells goes with it.",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong and what to do."},
        "request_id": {"type": "string", "description": "Of the service's log."},
    },
    "additionalProperties": True,
}
_REQUEST_ID = {
    "description": "That of the request, if it had one that is sane, or a new one.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "required": True,
}


def operation_id(route: APIRoute) -> str:
    """What programs that are made from the document call it."""
    return route.name


def methods(app: FastAPI, path: str) -> list[str]:
    """What may be asked of a path, by all routes that have it."""
    paths = app.openapi()["paths"]
    same = [path] if path in paths else [one for one in paths if compile_path(one)[0].match(path)]
    return sorted({method.upper() for each in same for method in paths[each]})


def describe(app: FastAPI, settings: Settings) -> None:
    """Let ``app`` serve the document of its routes, once they are all there."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    found = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes
    )
    components = found["components"]
    components["schemas"]["Problem"] = _PROBLEM_REPLY
    components["headers"] = {REQUEST_ID: _REQUEST_ID}
    security: list[dict[str, list[str]]] = []
    if "token" in settings.auth.accept:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        security = [{"token": []}]
        if "header" in settings.auth.accept:  # the front end names the user
            security.append({})
    for operations in found["paths"].values():
        for operation in operations.values():
            if security:
                operation["security"] = security
            for status, response in operation["responses"].items():
                _complete(operation["operationId"], status, response)
            if operation["operationId"] == "launch":
                _narrow(operation["requestBody"]["content"], settings)
    return found


def _complete(operation: str, status: str, response: dict[str, Any]) -> None:
    response.setdefault("headers", {})[REQUEST_ID] = {"$ref": f"#/components/headers/{REQUEST_ID}"}
    contents = response.get("content", {})
    example = REPLIES.get((operation, status))
    for content in contents.values():
        if example is not None:
            content["example"] = example
    if example is None and JSON in contents:
        said = ERRORS[status]
        contents[JSON]["example"] = {"error": said}
        contents[PROBLEM] = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "example": {
                "type": "about:blank",
                "title": response["description"].rstrip("."),
                "status": int(status) if status.isdigit() else 500,
                "detail": said,
                "request_id": "8d1f0b6c2e4a4f7d9b3a5c6e7f801234",
            },
        }


def _narrow(content: dict[str, Any], settings: Settings) -> None:
    """Say what can be launched here."""
    names = list(settings.applications)
    for each in content.values():
        properties = each["schema"]["properties"]
        properties["application"] = {"type": "string", "enum": names}
        each["example"] = {"application": names[0]} if names else LAUNCH
