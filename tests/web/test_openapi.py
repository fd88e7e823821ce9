"""The OpenAPI document is complete, and the service does what it says."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.site import Launch, Service, Site
from tests.usersite import auth, client, named

# What else a launch or a list may answer to what the document allows.
CHECKS = """
[[operations]]
include-operation-id = "launch"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 409, 422, 502, 503]
not_a_server_error.expected-statuses = ["2xx", "4xx", 502, 503]

[[operations]]
include-operation-id = "listing"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 403]
"""


@pytest.fixture
def whole(site: Site) -> Site:
    """A site with all that the document can describe."""
    site.config["auth"] = auth(site, "header", "token")
    site.config["uploads"] = {"directory": str(site.root / "uploads/{user}")}
    site.config["applications"] = {"cone": site.config["applications"]["cone"]}
    site.config["limits"] = {"sessions": 6}
    return site


@pytest.fixture
async def document(whole: Site, launcher: Launch) -> dict[str, Any]:
    async with launcher() as api, client(api, named("alice")) as alice:
        return dict((await alice.get("/openapi.json")).json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def fits(document: dict[str, Any], schema: dict[str, Any], example: Any) -> None:
    """Raises where an example is not what its schema says."""
    whole = {**schema, "components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(example)


async def test_every_answer_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    seen = 0
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert response["description"] != "Successful Response", (name, status)
            assert response["headers"]["X-Request-ID"], (name, status)
            contents = response.get("content", {})
            assert contents or status == "303", (name, status)
            for kind, content in contents.items():
                assert content["example"], (name, status, kind)
                fits(document, content.get("schema", {}), content["example"])
                seen += 1
            if not status.startswith(("2", "3")):
                assert set(contents) == {"application/json", "application/problem+json"}
                assert set(contents["application/json"]["example"]) == {"error"}
    assert seen > 100


async def test_operations_have_names_and_words_and_say_who_may(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert sorted(names) == [
        "announce",
        "announce_site",
        "announcements",
        "applications",
        "changes",
        "delete",
        "files",
        "launch",
        "listing",
        "log",
        "open",
        "progress",
        "put",
        "status",
        "stop",
        "withdraw",
        "withdraw_site",
    ]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for name, operation in operations(document):
        assert operation["security"] == [{"token": []}, {}], name
        assert operation["description"], name
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (name, parameter["name"])
    launch = document["paths"]["/paraview"]["post"]["requestBody"]["content"]["application/json"]
    assert launch["schema"]["properties"]["application"]["enum"] == ["cone"]
    fits(document, launch["schema"], launch["example"])


async def test_without_users_nobody_has_to_prove_anything(launcher: Launch) -> None:
    async with launcher() as api:
        document = (await api.client.get("/openapi.json")).json()
    assert "securitySchemes" not in document["components"]
    assert all("security" not in operation for _, operation in operations(document))


async def test_a_wrong_method_is_told_all_that_there_are(whole: Site, launcher: Launch) -> None:
    async with launcher() as api, client(api, named("alice")) as alice:
        for path, allowed in (
            ("/paraview", "GET, POST"),
            ("/paraview/x", "DELETE, GET"),
            ("/paraview/uploads", "GET"),
            ("/paraview/uploads/x", "DELETE, PUT"),
            ("/paraview/x/log", "GET"),
        ):
            reply = await alice.patch(path)
            assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


@pytest.mark.servers
def test_schemathesis_finds_nothing_that_the_document_does_not_say(whole: Site) -> None:
    """Some hundreds of requests of all kinds, right and wrong, within seconds."""
    (whole.root / "schemathesis.toml").write_text(CHECKS)
    whole.write()
    with Service(whole, "--end-sessions") as service:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
                *("--phases=examples,coverage,fuzzing", "--max-examples=3", "--max-time=20"),
                *("--seed=1", "--no-color", "--request-timeout=60", "--continue-on-failure"),
                "--exclude-operation-id=changes",  # which never ends
                *(f"-H{name}: {value}" for name, value in named("alice").items()),
            ],
            cwd=whole.root,
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert "Traceback" not in service.log
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 16" in done.stdout
