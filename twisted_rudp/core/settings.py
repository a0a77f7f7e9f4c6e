"""
Options, each declared once: what may be given, what holds when nothing is, and what it is for.

A declaration is a field of a dataclass: of an endpoint, made with L{option}, or of an engine's
settings, made with L{engine_option}. The checks, endpoint strings, C{configure}, the help of the
endpoint classes and the tables of the manual all come from it. An endpoint that takes a field of
an engine's settings as an argument refers to it with L{option_from}, and L{apply} gives the
engine its values.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, replace
from enum import Enum
from ipaddress import ip_address
from typing import Any, Final, TypeVar, get_args

from twisted_rudp.core.engine import SECOND

_S = TypeVar("_S")

_METADATA: Final = "option"

LONGEST_SECONDS: Final = 10**9
"""Three decades; what is longer means no limit."""

_INTEGER = re.compile(r"[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)
_HEX = re.compile(r"(0x)?[0-9a-fA-F]+", re.ASCII)
_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class Kind:
    """
    What values an option has.

    @ivar expected: the values in words, to follow "expected ".
    @cvar written: they can be written in an endpoint string.
    """

    expected: str
    written = True

    def parse(self, text: str) -> Any:
        """
        The value that a text stands for.

        @raise ValueError: it stands for none. Without a message: the option has one.
        """
        raise NotImplementedError

    def accepts(self, value: Any) -> bool:
        """Whether a program may give this value."""
        raise NotImplementedError

    def stored(self, value: Any) -> Any:
        """The value as an engine's settings hold it."""
        return value

    def given(self, stored: Any) -> Any:
        """The inverse of L{stored}."""
        return stored


class Integer(Kind):
    """A whole number from C{low} to C{high}, written in ASCII digits."""

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.expected = f"an integer from {low} to {high}"

    def parse(self, text: str) -> int:
        if not _INTEGER.fullmatch(text) or not self.accepts(int(text)):
            raise ValueError(text)
        return int(text)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


class Seconds(Kind):
    """
    A time in seconds, with or without a fraction; engines have nanoseconds. No exponent and
    no infinity.
    """

    def __init__(self, low: float, high: float = LONGEST_SECONDS) -> None:
        self.low = low
        self.high = high
        self.expected = f"a number of seconds, at least {low:g}"
        if high < LONGEST_SECONDS:
            self.expected = f"a number of seconds from {low:g} to {high:g}"

    def parse(self, text: str) -> float:
        if not _DECIMAL.fullmatch(text) or not self.accepts(float(text)):
            raise ValueError(text)
        return float(text)

    def accepts(self, value: Any) -> bool:
        real = isinstance(value, (int, float)) and math.isfinite(value)
        return real and self.low <= value <= self.high

    def stored(self, value: Any) -> int:
        return int(value * SECOND)

    def given(self, stored: Any) -> float:
        return float(stored / SECOND)


class Flag(Kind):
    """Yes or no. A program gives a boolean, 0 or 1: a word such as C{"no"} would count as yes."""

    expected = "yes, no, true, false, 1 or 0"

    def parse(self, text: str) -> bool:
        try:
            return _BOOLEANS[text.lower()]
        except KeyError:
            raise ValueError(text) from None

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int) and value in (0, 1)

    def stored(self, value: Any) -> bool:
        return bool(value)


class Choice(Kind):
    """One of a few words, or an enumeration's member that has one as its value."""

    def __init__(self, words: Any) -> None:
        """
        @param words: a C{Literal} type, an enumeration, or the words themselves.
        """
        if isinstance(words, type) and issubclass(words, Enum):
            words = [member.value for member in words]
        self.words: Sequence[str] = tuple(get_args(words) or words)
        self.expected = f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def parse(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(text)
        return text

    def accepts(self, value: Any) -> bool:
        return (value.value if isinstance(value, Enum) else value) in self.words


class Text(Kind):
    """Any text but the empty one."""

    def __init__(self, expected: str) -> None:
        self.expected = expected

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError(text)
        return text

    def accepts(self, value: Any) -> bool:
        return isinstance(value, (str, bytes)) and bool(value)


class FileName(Kind):
    """The name of a file."""

    expected = "the name of a file"

    def parse(self, text: str) -> str:
        if not self.accepts(text):
            raise ValueError(text)
        return text

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, (str, os.PathLike)):
            return False
        name = os.fspath(value)
        # No file has a NUL in its name, and the error of opening one would name no argument.
        return bool(name) and "\0" not in name


class ShortText(Kind):
    """A text of at most so many bytes of UTF-8, also the empty one."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.expected = f"a text of at most {most} bytes"

    def parse(self, text: str) -> str:
        if not self.accepts(text):
            raise ValueError(text)
        return text

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        return len(value.encode("utf-8", "surrogateescape")) <= self.most


class IPAddress(Kind):
    """
    An IP address, an IPv6 one with or without its zone. Not a name: binding must not wait for
    a resolver (EP-2).
    """

    expected = "an IPv4 or IPv6 address"

    def parse(self, text: str) -> str:
        if not _is_address(text):
            raise ValueError(text)
        return text

    def accepts(self, value: Any) -> bool:
        # Empty: any address. A program has more forms, which are told apart where it is used.
        return not isinstance(value, str) or not value or _is_address(value)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class HexNumber(Kind):
    """A number, written in at most so many hexadecimal digits."""

    def __init__(self, digits: int, low: int = 0) -> None:
        self._digits = digits
        self._low = low
        self.expected = f"1 to {digits} hexadecimal digits"
        if low:
            self.expected = f"hexadecimal digits from {low:x} to {16**digits - 1:x}"

    def parse(self, text: str) -> int:
        if not _HEX.fullmatch(text) or not self.accepts(int(text, 16)):
            raise ValueError(text)
        return int(text, 16)

    def accepts(self, value: Any) -> bool:
        return isinstance(value, int) and self._low <= value < 16**self._digits


class HexBytes(Kind):
    """So many bytes, written in hexadecimal digits; a program may give either."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.expected = f"{2 * count} hexadecimal digits"

    def parse(self, text: str) -> bytes:
        digits = text.removeprefix("0x")
        if not _HEX.fullmatch(digits) or len(digits) != 2 * self._count:
            raise ValueError(text)
        return bytes.fromhex(digits)

    def accepts(self, value: Any) -> bool:
        if isinstance(value, str):
            digits = value.removeprefix("0x")
            return bool(_HEX.fullmatch(digits)) and len(digits) == 2 * self._count
        return isinstance(value, bytes) and len(value) == self._count


class Several(Kind):
    """Values of another kind, joined by C{+}; a single one stays what it is."""

    def __init__(self, one: Kind) -> None:
        self._one = one
        self.expected = f"{one.expected}, or several joined by +"

    def parse(self, text: str) -> Any:
        values = [self._one.parse(each) for each in text.split("+")]
        return values[0] if len(values) == 1 else frozenset(values)

    def accepts(self, value: Any) -> bool:
        if isinstance(value, Collection) and not isinstance(value, str):
            return bool(value) and all(map(self._one.accepts, value))
        return self._one.accepts(value)


class InCode(Kind):
    """Something that only a program can give."""

    written = False

    def __init__(self, expected: str) -> None:
        self.expected = expected

    def accepts(self, value: Any) -> bool:
        return True


@dataclass(frozen=True)
class Option:
    """
    One option.

    @ivar kind: what values it has.
    @ivar default: what holds when nothing is given; C{REQUIRED}: something must be.
    @ivar meaning: what it is for, with its unit: a sentence without its full stop.
    @ivar name: as people write it.
    @ivar attribute: the name of its field.
    @ivar changeable: C{configure} changes it while a session runs.
    @ivar profiled: None stands for what the profile says.
    @ivar secret: no error repeats its value (STR-6).
    """

    kind: Kind
    default: Any
    meaning: str
    name: str = ""
    attribute: str = ""
    changeable: bool = False
    profiled: bool = False
    secret: bool = False

    @property
    def required(self) -> bool:
        """There is no default."""
        return self.default is MISSING

    def described(self) -> str:
        """In one paragraph, for C{help}."""
        default = "" if self.required else f"; default {self.default_text()}"
        return f"{self.meaning} Values: {self.kind.expected}{default}."

    def default_text(self) -> str:
        """What holds when nothing is given, as it would be typed."""
        default = self.default
        if default is None or default == "":
            return "by the profile" if self.profiled else "none"
        if isinstance(default, bool):
            return "yes" if default else "no"
        if isinstance(default, (int, float)):
            return f"{default:.10g}"
        return getattr(default, "__name__", None) or str(default)

    def check(self, value: Any) -> None:
        """
        @raise ValueError: a program may not give this; names the option, the value, and
            what is expected.
        """
        if value is None and self.default is None:
            return
        if not self.kind.accepts(value):
            shown = self.name if self.secret else f"{self.name}={value!r}"
            raise ValueError(f"{shown} is invalid: expected {self.kind.expected}")


REQUIRED: Final = MISSING


def written(name: str) -> str:
    """A field's name as people write it: C{dead_link} is C{deadLink} to them."""
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def declared(kind: Kind, meaning: str) -> Mapping[str, Option]:
    """The metadata of a field that has no default, which type checkers want to see as such."""
    return {_METADATA: Option(kind, REQUIRED, meaning)}


def option(
    kind: Kind, default: Any, meaning: str, *, profiled: bool = False, secret: bool = False
) -> Any:
    """Declare an argument of an endpoint."""
    made = Option(kind, default, meaning, profiled=profiled, secret=secret)
    return field(default=default, metadata={_METADATA: made})


def engine_option(kind: Kind, default: Any, meaning: str, *, changeable: bool = False) -> Any:
    """
    Declare a field of an engine's settings that people may give.

    @param default: as people would write it; the field has it as engines do.
    """
    made = Option(kind, default, meaning, changeable=changeable)
    return field(default=kind.stored(default), metadata={_METADATA: made})


def option_of(made: Option) -> Any:
    """Declare that an endpoint takes an option that is declared elsewhere as an argument."""
    return field(default=made.default, metadata={_METADATA: made})


def option_from(settings: type, name: str, *, profiled: bool = False) -> Any:
    """
    Declare that an endpoint takes a field of an engine's settings as an argument.

    @param profiled: left out, it is what the profile says.
    """
    made = options_of(settings)[name]
    return option_of(replace(made, default=None, profiled=True) if profiled else made)


def options_of(cls: type[Any]) -> Mapping[str, Option]:
    """The options that a dataclass declares, by the names that people write, in their order."""
    found = _known.get(cls)
    if found is None:
        # Not dataclasses.fields, which leaves out what only the constructor takes.
        fields: Mapping[str, Any] = getattr(cls, "__dataclass_fields__", {})
        found = _known[cls] = {
            written(name): replace(each.metadata[_METADATA], name=written(name), attribute=name)
            for name, each in fields.items()
            if _METADATA in each.metadata
        }
    return found


_known: dict[type[Any], Mapping[str, Option]] = {}


def check(settings: object) -> None:
    """
    See whether each value of an engine's settings is possible.

    @raise ValueError: one is not; names it as people do.
    """
    for each in options_of(type(settings)).values():
        value = getattr(settings, each.attribute)
        with suppress(TypeError):
            value = each.kind.given(value)
        each.check(value)


def apply(settings: _S, values: Mapping[str, Any]) -> _S:
    """
    An engine's settings with what people have given.

    @param values: by the names that people write; what the settings do not have is left
        alone, and None stands for what they have.
    @raise ValueError: a value is not possible.
    """
    changes: dict[str, Any] = {}
    for name, each in options_of(type(settings)).items():
        value = values.get(name)
        if value is not None:
            each.check(value)
            changes[each.attribute] = each.kind.stored(value)
    result: _S = replace(settings, **changes)  # type: ignore[type-var]
    return result


def changeable(*settings: type) -> Mapping[str, Option]:
    """The options that C{configure} may change, by name."""
    found = {name: each for cls in settings for name, each in options_of(cls).items()}
    return {name: found[name] for name in sorted(found) if found[name].changeable}


def require_within(name: str, value: int, least: int, most: int) -> None:
    """
    @raise ValueError: C{value} is no integer, or not in C{least} .. C{most}.
    """
    kind = Integer(least, most)
    if not kind.accepts(value):
        raise ValueError(f"{written(name)}={value!r} is invalid: expected {kind.expected}")
