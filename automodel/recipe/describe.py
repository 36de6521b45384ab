"""Words for types: what a field accepts, read from the JSON schema, for error messages and for the reference."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "object": "map", "array": "list"}
_LIMITS = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a model (made once)."""
    return model.model_json_schema(by_alias=True)


def expected_text(model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    """Return what the field at a path accepts, with its unit and typical range."""
    schema = schema_of(model)
    node: Mapping[str, Any] = schema
    for part in path:
        node = _step(node, str(part), schema)
    text = type_text(node, schema)
    extra = [f"in {node['unit']}"] if "unit" in node else []
    extra += [f"typically {node['typical']}"] if "typical" in node else []
    return f"{text} ({', '.join(extra)})" if extra else text


def type_text(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a type in words: `whole number >= 1, or none`."""
    if "$ref" in node:
        return f"map of {_title(node['$ref'])} keys"
    if "anyOf" in node:
        words = [type_text(option, schema) for option in node["anyOf"] if option.get("type") != "null"]
        none = ["none"] if any(option.get("type") == "null" for option in node["anyOf"]) else []
        return ", or ".join([*dict.fromkeys(words), *none])
    if "enum" in node:
        return "one of " + ", ".join(str(value) for value in node["enum"])
    if "const" in node:
        return str(node["const"])
    if node.get("type") == "array" and "items" in node:
        return f"list of {type_text(node['items'], schema)}"
    if node.get("type") == "array" and "prefixItems" in node:
        return f"list of {len(node['prefixItems'])} numbers"
    word = _TYPES.get(str(node.get("type")), "any value")
    limits = [f"{sign} {node[key]:g}" for key, sign in _LIMITS if key in node]
    return " ".join([word, " and ".join(limits)]).strip()


def _title(reference: str) -> str:
    return reference.rsplit("/", 1)[-1].removesuffix("Section").lower()


def _resolve(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in node:
        found: Mapping[str, Any] = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return found
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            return _resolve(option, schema)
    return node


def _step(node: Mapping[str, Any], part: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = _resolve(node, schema)
    properties = inner.get("properties", {})
    if part in properties:
        found: Mapping[str, Any] = properties[part]
        return found
    extra = inner.get("additionalProperties")
    return extra if isinstance(extra, Mapping) else {}
