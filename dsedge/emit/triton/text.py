"""A configuration as text: protobuf's text format, written here and read by Triton's own schema.

A configuration is a dict with the field names of `inference.ModelConfig` (Triton's `model_config.proto`). Writing one
needs no package; the schema that comes with tritonclient reads it where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableSequence
from importlib import import_module
from typing import Any

from dsedge.backends.base import installed_version
from dsedge.errors import BuildError

Config = dict[str, Any]

_MAPS = frozenset({"cc_model_filenames", "inputs"})
_ENUMS = frozenset({"data_type", "kind"})


def to_text(config: Config) -> str:
    """A configuration in protobuf's text format."""
    return "\n".join(_fields(config, "")) + "\n"


def _fields(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in message.items():
        if name in _MAPS:
            for key, item in value.items():
                yield from _message(name, {"key": key, "value": item}, indent)
        elif isinstance(value, Mapping):
            yield from _message(name, value, indent)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for item in value:
                yield from _message(name, item, indent)
        elif isinstance(value, list):
            yield f"{indent}{name}: [ {', '.join(map(str, value))} ]" if value else f"{indent}{name}: [ ]"
        else:
            yield f"{indent}{name}: {_quoted(value) if isinstance(value, str) and name not in _ENUMS else value}"


def _message(name: str, fields: Mapping[str, Any], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{"
    yield from _fields(fields, indent + "  ")
    yield f"{indent}}}"


def _quoted(text: str) -> str:
    """A string as the text format writes it; all but plain ASCII as octal escapes of its UTF-8 bytes."""
    plain = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in text.encode())
    return '"' + "".join(plain) + '"'


def schema_version() -> str | None:
    """The version of the installed tritonclient, whose schema reads configurations; None when it is missing."""
    return installed_version("tritonclient")


def parse(text: str) -> Config:
    """Read a configuration by Triton's own schema.

    Raises:
        BuildError: DS401 for what the schema does not know, DS402 when tritonclient is not installed.
    """
    try:
        schema, text_format = (
            import_module("tritonclient.grpc.model_config_pb2"),
            import_module("google.protobuf.text_format"),
        )
    except ImportError as error:
        what = "Triton's schema is not installed"
        raise BuildError("DS402", what, because=str(error), hint="pip install 'dsedge[triton]'") from error
    try:
        return _plain(text_format.Parse(text, schema.ModelConfig()))
    except text_format.ParseError as error:
        raise BuildError(
            "DS401", "Triton cannot read the configuration", where="config.pbtxt", because=str(error)
        ) from error


def _plain(message: Any) -> Config:
    """A protobuf message as a dict of the fields that are set."""
    found: Config = {}
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            nested = field.message_type.fields_by_name["value"].message_type
            found[field.name] = {key: _plain(item) if nested else item for key, item in value.items()}
        elif isinstance(value, MutableSequence):
            found[field.name] = [_plain(item) if field.message_type else item for item in value]
        elif field.enum_type:
            found[field.name] = field.enum_type.values_by_number[value].name
        else:
            found[field.name] = _plain(value) if field.message_type else value
    return found
