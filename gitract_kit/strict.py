"""Strict reading of plain values into frozen dataclasses: what is unknown or of the wrong type is named.

An error says which setting, what was found and what was expected; an unknown name brings the nearest known one.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from gitract_kit.errors import SettingsError

__all__ = ["nearest", "read_dataclass", "require", "to_plain"]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` with the nearest of ``known``, or all of them where none is near."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def require(holds: bool, name: str, value: Any, expected: str) -> None:
    """Raise a `SettingsError` that names the setting, its value and what it must be, unless ``holds``."""
    if not holds:
        raise SettingsError(f"{name} is {value!r}; it must be {expected}")


def read_dataclass(kind: type, values: Any, prefix: str = "") -> Any:
    """Return a ``kind`` made from a mapping, dataclasses within it alike; ``prefix`` is what errors call it.

    A dataclass with a static method ``named`` may also be given by a name. Lists become tuples and whole numbers
    floats where the field says so; nothing else is converted.
    """
    if isinstance(values, str) and hasattr(kind, "named"):
        return kind.named(values)
    if not isinstance(values, Mapping):
        raise SettingsError(f"{prefix or 'settings'}: expected a mapping of settings, found {values!r}")
    hints = typing.get_type_hints(kind)
    known = sorted(entry.name for entry in fields(kind))
    for key in values:
        if key not in known:
            raise SettingsError(f"no setting is called {prefix}{key!s}{nearest(str(key), known)}")
    return kind(**{key: _coerce(hints[key], value, f"{prefix}{key}") for key, value in values.items()})


def _coerce(hint: Any, value: Any, name: str) -> Any:
    """Return ``value`` as the type ``hint`` says, or raise a `SettingsError` that names the setting."""
    if is_dataclass(hint):
        return read_dataclass(hint, value, f"{name}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for option in arguments:
            try:
                return _coerce(option, value, name)
            except SettingsError:
                continue
    elif origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_coerce(arguments[0], item, name) for item in value)
    elif origin in (Mapping, typing.get_origin(Mapping[str, int])) and isinstance(value, Mapping):
        return {str(key): _coerce(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    elif hint is type(None) and value is None:
        return None
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise SettingsError(f"{name}: expected {getattr(hint, '__name__', hint)}, found {value!r}")


def to_plain(value: Any) -> Any:
    """Return ``value`` with its mappings as dicts and its sequences as lists, as JSON and YAML take them."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value
