"""Frozen config dataclasses to JSON and back, and strict `set("train.max_steps=2000")`; knows no piece of a run."""

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from matgen.errors import ConfigError

ConfigT = TypeVar("ConfigT")
ADDED = {"added": True}
"""Metadata of a field that earlier versions lacked: not in JSON at its default, so that their runs stay the same."""


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config dataclass into plain JSON values, keys in the order of the fields.

    Args:
        config: an instance of a dataclass whose leaves are numbers, strings, booleans, None, tuples and dataclasses.

    Returns:
        Nested dicts; tuples become lists, paths become strings.
    """
    values = {field: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        field.name: _plain(value)
        for field, value in values.items()
        if not (field.metadata.get("added") and value == field.default)
    }


def from_dict(config_type: type[ConfigT], values: dict[str, Any], prefix: str = "") -> ConfigT:
    """Build a config dataclass from plain JSON values; absent keys keep their defaults.

    Args:
        config_type: the dataclass.
        values: nested dicts as `to_dict` writes them.
        prefix: the dotted path of `values` in the whole, for messages.

    Raises:
        ConfigError: an unknown key, a missing required key, a wrong type, or a value that the dataclass refuses.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix or config_type.__name__}: expected an object with keys, got {values!r}")
    hints = _hints(config_type)
    for key in values:
        if key not in hints:
            raise _unknown_key(prefix, key, list(hints))
    converted = {key: _convert(hints[key], value, _join(prefix, key), from_text=False) for key, value in values.items()}
    return _build(config_type, converted, prefix)


def set_value(config: ConfigT, assignment: str) -> ConfigT:
    """Return a copy of the config with one dotted key set from text, such as `train.max_steps=2000`.

    Args:
        config: the config dataclass.
        assignment: `dotted.key=value`; tuples are comma-separated, None is `none`, booleans are `true` or `false`.

    Raises:
        ConfigError: an unknown key (the message lists the valid ones), a wrong type, or a refused value.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes KEY=VALUE, as in train.max_steps=2000; got {assignment!r}")
    return _set_path(config, key.strip().split("."), text.strip(), "")


def _set_path(config: Any, path: list[str], text: str, prefix: str) -> Any:
    hints = _hints(type(config))
    key, rest = path[0], path[1:]
    if key not in hints:
        raise _unknown_key(prefix, key, list(hints))
    where = _join(prefix, key)
    current = getattr(config, key)
    if rest:
        if not dataclasses.is_dataclass(current):
            raise ConfigError(f"{where} is a single value ({_type_name(hints[key])}), it has no key {rest[0]!r}")
        value = _set_path(current, rest, text, where)
    else:
        value = _convert(hints[key], text, where, from_text=True)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return _build(type(config), {**values, key: value}, where)


def _build(config_type: type[ConfigT], values: dict[str, Any], where: str) -> ConfigT:
    missing = [
        field.name
        for field in dataclasses.fields(config_type)  # type: ignore[arg-type]
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where or config_type.__name__}: missing {', '.join(missing)}")
    try:
        return config_type(**values)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _hints(config_type: type) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(config_type) if field.init]
    hints = typing.get_type_hints(config_type)
    return {name: hints[name] for name in names}


def _join(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _unknown_key(prefix: str, key: str, valid: list[str]) -> ConfigError:
    close = difflib.get_close_matches(key, valid, n=1)
    hint = f"; did you mean {_join(prefix, close[0])}?" if close else ""
    inside = f"valid in {prefix}" if prefix else "valid"
    return ConfigError(f"unknown key {_join(prefix, key)!r}{hint} ({inside}: {', '.join(valid)})")


def _type_name(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1:] == (Ellipsis,):
            return f"a list of {_type_name(arguments[0])}"
        return f"{len(arguments)} values ({', '.join(_type_name(argument) for argument in arguments)})"
    if hint is type(None):
        return "none"
    return str(getattr(hint, "__name__", hint))


def _wrong_type(hint: Any, value: Any, where: str) -> ConfigError:
    return ConfigError(f"{where}: expected {_type_name(hint)}, got {value!r}")


def _convert(hint: Any, value: Any, where: str, *, from_text: bool) -> Any:
    """Convert JSON values (from_text=False) or the text after `=` to the annotated type, or raise ConfigError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where, from_text=from_text)
    if origin is Literal:
        for choice in arguments:
            if (value == choice and type(value) is type(choice)) or (from_text and value == str(choice)):
                return choice
        raise _wrong_type(hint, value, where)
    if origin is tuple:
        return _convert_tuple(hint, value, where, from_text=from_text)
    if dataclasses.is_dataclass(hint):
        if from_text:
            names = ", ".join(_join(where, name) for name in _hints(hint))  # type: ignore[arg-type]
            raise ConfigError(f"{where} is a group of keys; set one of them: {names}")
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    return _convert_scalar(hint, value, where, from_text=from_text)


def _convert_union(hint: Any, value: Any, where: str, *, from_text: bool) -> Any:
    arguments = typing.get_args(hint)
    is_none = value is None or (from_text and value.lower() in ("none", "null"))
    if is_none and type(None) in arguments:
        return None
    errors = []
    for argument in arguments:
        if argument is not type(None):
            try:
                return _convert(argument, value, where, from_text=from_text)
            except ConfigError as error:
                errors.append(error)
    raise errors[0] if len(errors) == 1 and dataclasses.is_dataclass(arguments[0]) else _wrong_type(hint, value, where)


def _convert_tuple(hint: Any, value: Any, where: str, *, from_text: bool) -> tuple[Any, ...]:
    arguments = typing.get_args(hint)
    if from_text:
        value = value.strip().removeprefix("[").removesuffix("]").removeprefix("(").removesuffix(")")
        value = [item.strip().strip("'\"") for item in value.split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        raise _wrong_type(hint, value, where)
    if arguments[-1:] == (Ellipsis,):
        inner = [arguments[0]] * len(value)
    elif len(arguments) == len(value):
        inner = list(arguments)
    else:
        raise _wrong_type(hint, value, where)
    return tuple(_convert(kind, item, where, from_text=from_text) for kind, item in zip(inner, value, strict=True))


def _convert_scalar(hint: Any, value: Any, where: str, *, from_text: bool) -> Any:
    if hint is bool:
        if from_text and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if isinstance(value, bool):
            return value
    elif hint in (int, float):
        return _convert_number(hint, value, where, from_text=from_text)
    elif hint is str and isinstance(value, str):
        return value
    elif hint is Path and isinstance(value, str | Path):
        return Path(value)
    elif hint is Any or (typing.get_origin(hint) is dict and isinstance(value, dict)):
        return value
    raise _wrong_type(hint, value, where)


def _convert_number(hint: Any, value: Any, where: str, *, from_text: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or isinstance(value, str) != from_text:
        raise _wrong_type(hint, value, where)
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                raise _wrong_type(hint, value, where) from None
    if hint is int:
        if value != value or value in (float("inf"), float("-inf")) or int(value) != value:  # 1e6 is an int, 1.5 is not
            raise _wrong_type(hint, value, where)
        return int(value)
    return float(value)
