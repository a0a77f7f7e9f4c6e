from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_rudp import errors
from twisted_rudp.core.engine import Reason
from twisted_rudp.errors import Phase, failureFor


class FailureForTests(SynchronousTestCase):
    def test_connecting(self) -> None:
        """Before the connection is there every reason is a C{ConnectError} (CONN-6)."""
        for reason in Reason:
            failure = failureFor(reason, None, Phase.CONNECTING)
            self.assertIsInstance(failure, Failure)
            self.assertIsInstance(failure.value, error.ConnectError)
            self.assertIn(reason.value, str(failure.value))

    def test_connected(self) -> None:
        """Afterwards it is C{ConnectionDone}, C{ConnectionAborted} or C{ConnectionLost}, never a connecting error (CLOSE-8)."""  # noqa: E501
        for reason in Reason:
            value = failureFor(reason, None, Phase.CONNECTED).value
            if reason is Reason.DONE:
                self.assertIs(type(value), error.ConnectionDone)
            elif reason is Reason.ABORTED:
                self.assertIs(type(value), error.ConnectionAborted)
            else:
                self.assertIsInstance(value, error.ConnectionLost)
            self.assertNotIsInstance(value, error.ConnectError)

    def test_table(self) -> None:
        """The reasons that CONN-6 and CLOSE-8 name have the types they name."""
        connecting = {
            Reason.HANDSHAKE_TIMEOUT: error.TimeoutError,
            Reason.REFUSED: error.ConnectionRefusedError,
            Reason.UNREACHABLE: error.NoRouteError,
            Reason.FULL: errors.PeerFull,
            Reason.BANNED: errors.AddressBanned,
            Reason.VERSION: errors.VersionRefused,
            Reason.AUTHENTICATION: errors.AuthenticationFailed,
        }
        for reason, kind in connecting.items():
            self.assertIs(type(failureFor(reason, None, Phase.CONNECTING).value), kind)
        connected = {
            Reason.RESET: errors.PeerReset,
            Reason.IDLE: errors.PeerTimedOut,
            Reason.DEAD_LINK: errors.PeerTimedOut,
            Reason.FORGOTTEN: errors.PeerForgot,
            Reason.SOCKET_LOST: errors.SocketLost,
            Reason.INTERNAL: errors.InternalError,
        }
        for reason, other in connected.items():
            self.assertIs(type(failureFor(reason, None, Phase.CONNECTED).value), other)

    def test_refusals(self) -> None:
        """What the peer refuses is a C{ConnectionRefusedError} of ours (CONN-6)."""
        for kind in (errors.PeerFull, errors.AddressBanned, errors.VersionRefused):
            self.assertTrue(issubclass(kind, error.ConnectionRefusedError))

    def test_detail(self) -> None:
        """A detail for people replaces the reason's own text."""
        for phase in Phase:
            failure = failureFor(Reason.RESET, "told so", phase)
            self.assertIn("told so", str(failure.value))
