"""The manual's pictures of the state machines know every state and no other."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from tests.interpreter import CHECKOUT
from twisted_rudp.core.lifecycle import State as SessionState
from twisted_rudp.discovery.nodes import Change, Removal
from twisted_rudp.endpoints.node import State


def drawn(page: str, beginning: str) -> set[str]:
    """The words in capitals of the first picture with this text in it."""
    text = (CHECKOUT / "docs" / page).read_text(encoding="utf-8")
    pictures = re.findall(r"code-block:: text\n\n((?:    .*\n|\n)+)", text)
    picture = next(picture for picture in pictures if beginning in picture)
    return set(re.findall(r"\b[A-Z_]{3,}\b", picture))


class PictureTests(SynchronousTestCase):
    """One picture for each machine."""

    def test_sessions(self) -> None:
        """The life of a session, of all transports."""
        self.assertEqual(drawn("sessions.rst", "HANDSHAKE -->"), set(SessionState.__members__))

    def test_announcements(self) -> None:
        """What an announcement means to the registry and why it goes."""
        expected = {*Change.__members__, *Removal.__members__, "HELD", "STALE"}
        self.assertEqual(drawn("discovery.rst", "heard ----"), expected)

    def test_node(self) -> None:
        """Connecting to a node."""
        self.assertEqual(drawn("discovery.rst", "LOOKING --"), set(State.__members__))
