"""Settings of a fit: frozen dataclasses that check themselves, read from TOML, with errors for people."""
# SPDX-License-Identifier: MIT

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from equipot import EquipotError, _equipot
from equipot.potential import set_threads

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

S = TypeVar("S", bound="Settings")

# What other programs have a setting for.
_DONE_WITHOUT = {"device": "fits run on the CPU"}
# How alike names in different sections must be for one to be meant by the other.
_ALIKE = 0.85


class SettingsError(EquipotError, ValueError):
    """A setting that is misspelt, of the wrong type or out of range."""


def setting(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    example: str | None = None,
    shown: bool = False,
) -> Any:
    """Make a dataclass field with limits.

    Parameters
    ----------
    default : object, optional
        Left out, the setting must be given. A class derived from `Settings` stands for its own defaults.
    least, above, most, below : float, optional
        Limits of a number, or of each number in a list or table: >=, >, <=, <.
    example : str, optional
        TOML text of a value, for the example file where the default cannot be written (None, or required).
    shown : bool
        The example file sets it instead of naming its default in a comment.
    """
    limits = {"least": least, "above": above, "most": most, "below": below}
    metadata = {"limits": {k: v for k, v in limits.items() if v is not None}, "example": example, "shown": shown}
    if isinstance(default, type) and issubclass(default, Settings):
        return dataclasses.field(default_factory=default, metadata=metadata)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base of all settings: every field is checked against its type and limits when an object is made.

    Fields may be bool, int, float, str, tuples and tables (``dict``) of these, literals, other settings (a section of
    the file), and unions with None. Descriptions come from the ``Attributes`` section of the class's docstring.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            try:
                value = _converted(getattr(self, field.name), hints[field.name], field.metadata.get("limits", {}))
            except _Wrong as error:
                raise _FieldError(type(self).__name__, field.name, str(error)) from None
            object.__setattr__(self, field.name, value)


class _Wrong(Exception):
    """Why a value does not fit; the caller knows where it stands."""


class _FieldError(SettingsError):
    def __init__(self, owner: str, name: str, problem: str) -> None:
        self.sentence = f"{name} {problem}{'' if problem.endswith('?') else '.'}"
        super().__init__(f"{owner}: {self.sentence}")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    SettingsError
        When the file cannot be read or is not TOML, with the line.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"Cannot read the settings '{path}': {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings '{path}' are not a TOML file: {error}.") from error


def build(cls: type[S], table: Mapping[str, Any], name: str = "settings") -> S:
    """Make settings from a table as TOML gives it.

    Parameters
    ----------
    cls : type
        The class of settings.
    table : mapping
        Values by name; sections are tables within it.
    name : str
        What errors call the source, such as the name of the file.

    Raises
    ------
    SettingsError
        For a key that is not known (with the nearest right one and its section), a key that is missing, and values of
        the wrong type or out of range.
    """
    return _build(cls, table, name, "", list(_walk(cls)))


def gather(
    cls: type[S], given: Any, sections: Mapping[str, Any], *, in_memory: bool = False
) -> tuple[S, str, Path, str]:
    """Make the settings of a fit from what its function was called with.

    Parameters
    ----------
    cls : type
        The class of settings; it has a section `data`.
    given : Settings, mapping, path-like or None
        Settings, or a TOML file with them.
    sections : mapping
        Settings by name, on top of `given`: values, or tables for sections.
    in_memory : bool
        Whether the data come in memory, so that no files need be named.

    Returns
    -------
    settings : Settings
        Of the class `cls`; paths are as they were given.
    name : str
        What errors call the source.
    base : pathlib.Path
        The folder that paths are relative to.
    folder : str
        The run's folder if the settings name none.
    """
    folder, base, table = "run", Path(), {}
    if isinstance(given, cls):
        table = to_dict(given)
    elif isinstance(given, Mapping):
        table = dict(given)
    elif given is not None:
        table = read_toml(given)
        base, folder = Path(given).parent, str(Path(given).with_suffix(""))
    for name, value in sections.items():
        old = table.get(name)
        table[name] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    if in_memory:
        table.setdefault("data", {"train": []})
    name = str(given) if isinstance(given, (str, Path)) else "settings"
    return build(cls, table, name), name, base, folder


def use_threads(threads: int, note: Callable[[str], None]) -> None:
    """Use so many, if not zero, or note that this process runs with another number already, as notebooks may."""
    if not threads:
        return
    try:
        set_threads(threads)
    except EquipotError:
        note(f"warning: threads = {threads} is not used, as this process runs with {_equipot.threads()} already")


def to_dict(settings: Settings) -> dict[str, Any]:
    """Give settings as plain nested tables; values that are None are left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, Settings):
            return {
                f.name: plain(getattr(value, f.name))
                for f in dataclasses.fields(value)
                if getattr(value, f.name) is not None
            }
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        return value

    return plain(settings)


def to_toml(table: Mapping[str, Any]) -> str:
    """Write nested tables, as `to_dict` gives them, as TOML."""
    lines: list[str] = []

    def write(part: Mapping[str, Any], section: str) -> None:
        values = {k: v for k, v in part.items() if not isinstance(v, Mapping)}
        if section:
            lines.extend(["", f"[{section}]"])
        lines.extend(f"{_key(k)} = {_toml(v)}" for k, v in values.items())
        for k, v in part.items():
            if isinstance(v, Mapping):
                write(v, f"{section}.{_key(k)}" if section else _key(k))

    write(table, "")
    return "\n".join(lines).lstrip("\n") + "\n"


def example(cls: type[Settings], head: str = "") -> str:
    """Give a commented TOML file with every setting; those that may be left out are commented out with their default.

    Parameters
    ----------
    cls : type
        The class of settings.
    head : str
        Lines for the top of the file.
    """
    lines = [head.rstrip()] if head else []

    def entry(name: str, value: str, text: str, required: bool) -> None:
        lines.extend(f"# {line}" for line in _wrapped(text))
        lines.append(f"{name} = {value}" if required else f"#{name} = {value}")

    def section(owner: type[Settings], title: str) -> None:
        hints, texts = _hints(owner), descriptions(owner)
        later = []
        for field in dataclasses.fields(owner):
            inner = _section_type(hints[field.name])
            if inner is not None:
                later.append((field.name, inner))
                continue
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            default = None if required else _default(field)
            text = field.metadata.get("example") or ("" if default is None else _toml(_plain(default)))
            entry(field.name, text, texts.get(field.name, ""), required or field.metadata.get("shown", False))
        for name, inner in later:
            lines.append("")
            lines.extend(f"# {line}" for line in _wrapped(texts.get(name, "")))
            lines.append(f"[{title}{name}]")
            section(inner, f"{title}{name}.")

    section(cls, "")
    return "\n".join(lines) + "\n"


def descriptions(cls: type[Settings]) -> dict[str, str]:
    """Give the description of every field, from the ``Attributes`` section of the docstring (numpy style)."""
    text = re.sub(r"^    ", "", cls.__doc__ or "", flags=re.MULTILINE)
    _, _, body = text.partition("Attributes\n----------\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in body.splitlines():
        if line.strip() and not line.startswith(" "):
            names = [n.strip() for n in line.partition(" : ")[0].split(",")]
            found.update(dict.fromkeys(names, ""))
        elif line.strip():
            for name in names:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def nearest(word: str, known: list[str], alike: float = 0.6) -> str | None:
    """Find the name that a misspelt word most likely means, `alike` from 0 for any to 1 for the same."""
    close = difflib.get_close_matches(word.lower(), [k.lower() for k in known], n=1, cutoff=alike)
    return next((k for k in known if k.lower() == close[0]), None) if close else None


def advice(word: str, known: list[str], otherwise: str = "") -> str:
    """End a sentence about a word that is not known: with the one that it most likely means, else with `otherwise`."""
    close = nearest(word, known)
    if close:
        return f"; did you mean '{close}'?"
    return f"; {otherwise}." if otherwise else "."


# -- reading ----------------------------------------------------------------------------------------------------------


def _build(cls: type[S], table: Any, name: str, section: str, everywhere: list[tuple[str, str]]) -> S:
    where = f"{name}, [{section}]" if section else name
    if not isinstance(table, Mapping):
        raise SettingsError(f"{name}: [{section}] must be a section with settings, not {_shown(table)}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise SettingsError(f"{where}: there is no setting '{key}'; {_advice(key, list(fields), everywhere)}")
        inner = _section_type(hints[key])
        if inner is not None and value is not None and not isinstance(value, inner):
            value = _build(inner, value, name, f"{section}.{key}" if section else key, everywhere)
        values[key] = value
    for key, field in fields.items():
        inner = _section_type(hints[key])
        own_defaults: Any = field.default_factory
        if key not in values and inner is not None and own_defaults is inner:
            values[key] = _build(inner, {}, name, f"{section}.{key}" if section else key, everywhere)
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and key not in values:
            what = f"the section [{key}]" if inner is not None else f"the setting '{key}'"
            raise SettingsError(f"{where}: {what} is missing.")
    try:
        return cls(**values)
    except _FieldError as error:
        raise SettingsError(f"{where}: {error.sentence}") from None
    except SettingsError as error:
        raise SettingsError(f"{where}: {str(error).removeprefix(f'[{section}] ')}") from None


def _advice(key: str, known: list[str], everywhere: list[tuple[str, str]]) -> str:
    if key in _DONE_WITHOUT:
        return f"{_DONE_WITHOUT[key]}."
    elsewhere = [section for section, other in everywhere if other == key]
    if elsewhere:
        return f"it belongs in {' or '.join(map(_place, elsewhere))}."
    close = nearest(key, known)
    if close:
        return f"did you mean '{close}'? Known here are {', '.join(known)}."
    other = nearest(key, [o for _, o in everywhere], _ALIKE)
    if other:
        return f"did you mean '{other}' in {_place(next(s for s, o in everywhere if o == other))}?"
    return f"known here are {', '.join(known)}."


def _place(section: str) -> str:
    return f"[{section}]" if section else "the top of the file"


def _walk(cls: type[Settings], section: str = "") -> Iterator[tuple[str, str]]:
    """All settings below a class: (section, name)."""
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        yield section, field.name
        inner = _section_type(hints[field.name])
        if inner is not None:
            yield from _walk(inner, f"{section}.{field.name}" if section else field.name)


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _section_type(hint: Any) -> type[Settings] | None:
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
    return None


def _converted(value: Any, hint: Any, limits: Mapping[str, float]) -> Any:
    """Bring a value to its declared type, or say what is wrong with it."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        members = [a for a in args if a is not type(None)]
        if len(members) == 1:
            return _converted(value, members[0], limits)
        problems = []
        for member in members:
            try:
                return _converted(value, member, limits)
            except _Wrong as error:
                problems.append(str(error))
        raise _Wrong(" or ".join(dict.fromkeys(problems)))
    if origin is Literal:
        if value not in args or isinstance(value, bool) != isinstance(args[0], bool):
            close = nearest(value, [str(a) for a in args]) if isinstance(value, str) else None
            hint_text = f"; did you mean '{close}'?" if close else ""
            raise _Wrong(f"must be {_alternatives(args)}, not {_shown(value)}{hint_text}")
        return value
    if origin is tuple:
        if isinstance(value, (str, Path)) and args[0] is str:
            value = (value,)
        if not isinstance(value, (list, tuple)):
            raise _Wrong(f"must be a list of {_kind(args[0])}, not {_shown(value)}")
        return tuple(_converted(v, args[0], limits) for v in value)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _Wrong(f"must be a table of {_kind(args[1])} by name, not {_shown(value)}")
        table = {}
        for k, v in value.items():
            try:
                table[str(k)] = _converted(v, args[1], limits)
            except _Wrong as error:
                raise _Wrong(f"({k}) {error}") from None
        return table
    if isinstance(hint, type) and issubclass(hint, Settings):
        if not isinstance(value, hint):
            raise _Wrong(f"must be a section with settings, not {_shown(value)}")
        return value
    return _scalar(value, hint, limits)


def _scalar(value: Any, hint: type, limits: Mapping[str, float]) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()  # numpy's scalars
    if hint is str and isinstance(value, Path):
        value = str(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _Wrong(f"must be {_kind(hint)}, not {_shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(f"must be a finite number, not {value}")
    tests = {
        "least": (lambda v, limit: v >= limit, "at least"),
        "above": (lambda v, limit: v > limit, "above"),
        "most": (lambda v, limit: v <= limit, "at most"),
        "below": (lambda v, limit: v < limit, "below"),
    }
    for name, limit in limits.items():
        holds, words = tests[name]
        if not isinstance(value, str) and not holds(value, limit):
            raise _Wrong(f"must be {words} {limit:g}, not {value:g}")
    return value


def _kind(hint: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    return names.get(hint, str(hint))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) < 60 else text[:57] + "..."


def _alternatives(values: tuple[Any, ...]) -> str:
    shown = [_shown(v) for v in values]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]


# -- writing ----------------------------------------------------------------------------------------------------------


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text or "e" in text else text + ".0"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _wrapped(text: str, width: int = 110) -> list[str]:
    return textwrap.wrap(text, width) if text else []
