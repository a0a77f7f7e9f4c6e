"""Tests for L{twisted_rudp.core.settings}."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp.core.engine import SECOND
from twisted_rudp.core.settings import (
    Choice,
    FileName,
    Flag,
    HexBytes,
    HexNumber,
    InCode,
    Integer,
    IPAddress,
    Kind,
    Seconds,
    Several,
    ShortText,
    Text,
    apply,
    changeable,
    check,
    declared,
    engine_option,
    option,
    option_from,
    options_of,
)


class Colour(Enum):
    """Two words."""

    RED = "red"
    BLUE = "blue"


KINDS: list[tuple[Kind, dict[str, Any], tuple[str, ...], tuple[Any, ...], tuple[Any, ...]]] = [
    # kind, texts with their values, texts that are none, values accepted and refused
    (Integer(1, 30), {"1": 1, "030": 30}, ("0", "31", "", "+1", "1_0", "٣", "9" * 40), (1, 30),
     (0, 31, "1", 1.5, None)),
    (Seconds(0.5, 9), {"0.5": 0.5, "9": 9.0}, ("0.4", "9.1", "1e0", "nan", "-1", ""), (0.5, 9),
     (0.4, 10, "1", float("nan"), float("inf"), None)),
    (Flag(), {"YES": True, "no": False, "1": True, "false": False}, ("", "2", "ja"),
     (True, False, 0, 1), ("no", 2, None, 0.0)),
    (Choice(Literal["red", "blue"]), {"red": "red"}, ("", "Red", "green"), ("blue", Colour.RED),
     ("green", None, 1)),
    (Choice(Colour), {"blue": "blue"}, ("RED",), ("red",), ("RED",)),
    (Text("any text"), {"a b": "a b"}, ("",), ("a", b"a"), ("", None, 3)),
    (FileName(), {"a b": "a b"}, ("", "a\0b"), ("a", Path("a")), ("", "a\0b", None, b"a", 3)),
    (ShortText(3), {"": "", "abc": "abc", "é": "é"}, ("abcd", "éé"), ("", "abc"), ("abcd", None)),
    (IPAddress(), {"127.0.0.1": "127.0.0.1", "fe80::1%eth0": "fe80::1%eth0"},
     ("", "localhost", "1.2.3", "1.2.3.4:5"), ("", "::", ("::1", 5)), ("localhost",)),
    (HexNumber(2), {"ff": 255, "0x0": 0}, ("", "fff", "g", "-1"), (0, 255), (256, -1, "ff")),
    (HexNumber(2, low=0x80), {"80": 128}, ("7f",), (255,), (127,)),
    (HexBytes(2), {"00ff": b"\0\xff", "0x00ff": b"\0\xff"}, ("", "00", "00ff00", "zzzz"),
     (b"ab", "00ff"), (b"a", "00f", None, 7)),
    (Several(Integer(0, 9)), {"3": 3, "3+4": frozenset({3, 4})}, ("", "3+", "3+10"),
     (3, {1, 2}, [5]), (10, {10}, set(), "3")),
]  # fmt: skip


class KindTests(SynchronousTestCase):
    """What texts stand for, and what a program may give."""

    def test_texts(self) -> None:
        """Each text has its value, which a program could have given as well."""
        for kind, texts, _, _, _ in KINDS:
            for text, value in texts.items():
                self.assertEqual(kind.parse(text), value)
                self.assertTrue(kind.accepts(kind.parse(text)), (kind.expected, text))

    def test_noTexts(self) -> None:
        """Anything else is refused."""
        for kind, _, refused, _, _ in KINDS:
            for text in refused:
                self.assertRaises(ValueError, kind.parse, text)

    def test_values(self) -> None:
        """What a program gives is checked the same way."""
        for kind, _, _, accepted, refused in KINDS:
            for value in accepted:
                self.assertTrue(kind.accepts(value), (kind.expected, value))
            for value in refused:
                self.assertFalse(kind.accepts(value), (kind.expected, value))

    def test_stored(self) -> None:
        """Engines count nanoseconds; everything else they have as it is."""
        self.assertEqual(Seconds(0).stored(1.5), 1_500_000_000)
        self.assertEqual(Seconds(0).given(1_500_000_000), 1.5)
        self.assertEqual(Integer(0, 9).stored(3), 3)

    def test_inCode(self) -> None:
        """What only a program can give cannot be written."""
        self.assertFalse(InCode("a function").written)
        self.assertTrue(all(kind.written for kind, *_ in KINDS))


@dataclass(frozen=True)
class Settings:
    """An engine's."""

    window: int = engine_option(Integer(1, 100), 10, "Window in segments.", changeable=True)
    idle_time: int = engine_option(Seconds(0.1), 30, "Seconds of silence.")
    inner: int = 5

    def __post_init__(self) -> None:
        check(self)


@dataclass(kw_only=True)
class Endpoint:
    """An endpoint's."""

    port: int = field(kw_only=False, metadata=declared(Integer(0, 65535), "Port."))
    window: int | None = option_from(Settings, "window", profiled=True)
    idleTime: float = option_from(Settings, "idleTime")
    key: str | None = option(Text("any text"), None, "Key.", secret=True)


class OptionTests(SynchronousTestCase):
    """Declarations and what comes of them."""

    def test_names(self) -> None:
        """Options have the names that people write, and know their fields."""
        table = options_of(Settings)
        self.assertEqual(list(table), ["window", "idleTime"])
        self.assertEqual(table["idleTime"].attribute, "idle_time")
        self.assertEqual(list(options_of(Endpoint)), ["port", "window", "idleTime", "key"])

    def test_defaults(self) -> None:
        """A default is declared as people write it; the engine has it as it stores it."""
        self.assertEqual(Settings().idle_time, 30 * SECOND)
        made = Endpoint(1)
        self.assertEqual((made.window, made.idleTime, made.key), (None, 30, None))
        texts = [each.default_text() for each in options_of(Endpoint).values() if not each.required]
        self.assertEqual(texts, ["by the profile", "30", "none"])

    def test_apply(self) -> None:
        """What was given goes into the engine's settings, converted; None leaves what is there."""
        settings = apply(Settings(window=7), {"window": None, "idleTime": 2, "port": 1})
        self.assertEqual(settings, Settings(window=7, idle_time=2 * SECOND))

    def test_refused(self) -> None:
        """Errors name the option as people write it, its value, and what is expected."""
        for wrong in ("3", 0, None):
            error = self.assertRaises(ValueError, options_of(Settings)["window"].check, wrong)
            self.assertEqual(
                str(error), f"window={wrong!r} is invalid: expected an integer from 1 to 100"
            )
        error = self.assertRaises(ValueError, apply, Settings(), {"idleTime": "5"})
        self.assertIn("idleTime='5' is invalid: expected a number of seconds", str(error))
        error = self.assertRaises(ValueError, Settings, idle_time="x")
        self.assertIn("idleTime='x' is invalid", str(error))

    def test_secret(self) -> None:
        """The value of a secret is not repeated."""
        error = self.assertRaises(ValueError, options_of(Endpoint)["key"].check, 12345)
        self.assertEqual(str(error), "key is invalid: expected any text")

    def test_none(self) -> None:
        """None is right where it is the default."""
        options_of(Endpoint)["window"].check(None)
        self.assertRaises(ValueError, options_of(Endpoint)["idleTime"].check, None)

    def test_changeable(self) -> None:
        """Only some may change while a session runs."""
        self.assertEqual(list(changeable(Settings)), ["window"])

    def test_frozen(self) -> None:
        """Declarations do not get in the way of the dataclass."""
        self.assertRaises(FrozenInstanceError, setattr, Settings(), "window", 3)
