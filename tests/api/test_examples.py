"""Every body that is sent and every answer has an example in the document, and each is one that its schema allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from drf_spectacular.generators import SchemaGenerator

JSON = ("application/json", "application/problem+json")


@pytest.fixture(scope="module")
def document() -> Any:
    return SchemaGenerator().get_schema(public=True)


def bodies(document: Any) -> Iterator[tuple[str, Any]]:
    """Name and media object of whatever is JSON."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            told = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for status, answer in told.items():
                shared = answer.get("$ref", "").rpartition("/")[2]
                found = document["components"]["responses"][shared] if shared else answer
                for kind, media in found.get("content", {}).items():
                    if kind in JSON:
                        yield f"{method} {path} {status}", media


def nullable(schema: Any) -> Any:
    """As JSON Schema says what OpenAPI 3.0 calls nullable."""
    if isinstance(schema, list):
        return [nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: nullable(each) for name, each in schema.items() if name not in ("example", "examples")}
    return {"anyOf": [found, {"type": "null"}]} if found.pop("nullable", False) is True else found


def test_every_example_is_there_and_is_what_its_schema_allows(document):
    components = nullable(document["components"]["schemas"])
    seen, problems = 0, []
    for name, media in bodies(document):
        examples = [each["value"] for each in media.get("examples", {}).values()]
        examples += [media["example"]] if "example" in media else []
        assert examples, f"{name} has no example"
        schema = {**nullable(media["schema"]), "components": {"schemas": components}}
        for example in examples:
            problems += [
                f"{name} {'.'.join(map(str, each.path))}: {each.message[:200]}"
                for each in jsonschema.Draft4Validator(schema).iter_errors(example)
            ]
            seen += 1
    assert not problems, "\n".join(problems)
    assert seen > 300


def test_an_example_tells_the_story_of_a_deal(document):
    answer = document["paths"]["/api/v1/deals/{id}/"]["get"]["responses"]["200"]["content"]["application/json"]
    deal = answer["example"]
    assert [deal[name] for name in ("entry_price", "exit_price", "fees_quote", "profit")] == [
        "50000",
        "50300",
        "2.4",
        "0.6",
    ]
    assert (deal["status"], deal["close_reason"]) == ("CLOSED", "take_profit")
    assert deal["market"]["symbol"] == "BTCUSDT"
