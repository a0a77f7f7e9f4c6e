"""
The interfaces that a user of the package sees.

A stream of ours provides what a TCP connection provides (C{ITCPTransport},
C{IPushProducer}, C{IConsumer}); what a transport over UDP can do beyond that is
here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory
from zope.interface import Interface

from twisted_rudp.messages import Delivery, Message


class IRUDPTransport(Interface):
    """What a transport over UDP can tell about its session, beyond C{ITransport} (TR-10)."""

    def counters() -> Mapping[str, int]:
        """This session's counters under their own names. After the end those of the end."""

    def facts() -> Mapping[str, Any]:
        """
        What a person wants to know: conversation or connection id, round trip in
        seconds, windows, cipher. Never a secret. After the end those of the end.
        """

    def configure(**changes: Any) -> None:
        """
        Change settings of the session while it runs. Which ones there are is the
        transport's business; the names are those of its endpoint's constructor. What
        was dialled may change C{dscp}, C{readBuffer} and C{writeBuffer} of its socket
        too; for what was accepted the listening port has a C{configure}.

        @raise ValueError: this transport has no such setting or it cannot be
            changed now, or a value is not possible. Then nothing is changed.
        """

    def sendOutOfBand(data: bytes) -> None:
        """
        Send a message beside the stream: once, unordered, perhaps lost. Silently
        dropped once the connection is closing.

        @raise ValueError: the wire has none, or not as long a one.
        """


class IOutOfBandProtocol(IProtocol, Interface):
    """A protocol that is also given what comes beside its stream."""

    def outOfBandReceived(data: bytes) -> None:
        """A message has come that was sent out of band."""


class IMessageProtocol(IProtocol, Interface):
    """A protocol that is given messages instead of bytes. C{dataReceived} is not called."""

    def messageReceived(message: Message) -> None:
        """A message has come from the peer."""


class IMessageTransport(IRUDPTransport):
    """
    A session that carries messages. It provides C{IPushProducer} and
    C{IConsumer} too; C{write(data)} is C{send(data)}.
    """

    def send(
        data: bytes,
        delivery: Delivery = Delivery.RELIABLE_ORDERED,
        channel: int = 0,
        priority: int = 0,
        receipt: bool = False,
    ) -> Deferred[bool] | None:
        """
        Queue one message. Silently dropped once the connection is closing.

        @param channel: messages are ordered within their channel only.
        @param priority: what is larger goes first, where the transport has that.
        @param receipt: tell what became of it.
        @return: None, or with C{receipt} a C{Deferred} that fires with whether the
            peer is known to have got the message: True when it acknowledged it,
            False when it was given up or the connection ended first.
        @raise TypeError: C{data} is not C{bytes}.
        @raise ValueError: the wire cannot carry this: empty, too long, or a
            delivery it does not have.
        """


class IMultiplexed(Interface):
    """
    A connection that can carry more streams than its own. The transport given to
    a protocol provides this if its session can.
    """

    def openStream(factory: IProtocolFactory) -> IProtocol | None:
        """
        Open one more stream; nothing goes on the wire before its first byte.

        @param factory: builds the protocol for it.
        @return: the protocol, connected to a stream transport of its own; None if
            the factory did not want it.
        @raise RuntimeError: the connection is closing or closed.
        """

    def acceptStreams(factory: IProtocolFactory) -> None:
        """
        Have protocols built for the streams that the peer opens, also for those it
        opened before; until this is called they wait.
        """


class INodeBrowser(Interface):
    """
    Hears which nodes discovery finds and loses. Each call comes in a reactor turn of its
    own; what is raised is logged. Changes in between are one change.
    """

    def nodeAdded(node: Any) -> None:
        """
        A node can be reached now, on the word of whoever announced it.

        @param node: a L{Node<twisted_rudp.discovery.nodes.Node>}.
        """

    def nodeUpdated(node: Any) -> None:
        """A node has other addresses."""

    def nodeRemoved(id: Any, reason: Any) -> None:
        """
        A node has no address any more.

        @param id: its L{NodeId<twisted_rudp.discovery.ids.NodeId>}.
        @param reason: a L{Removal<twisted_rudp.discovery.nodes.Removal>}.
        """


class Pong(NamedTuple):
    """
    What a server has said of itself.

    @ivar address: of the server.
    @ivar guid: 64 bits that name it.
    @ivar text: what it says, as it is.
    @ivar fields: that by names, where its form is known.
    @ivar seconds: from ping to pong.
    """

    address: IAddress
    guid: int
    text: str
    fields: Mapping[str, str] | None
    seconds: float


class IPingable(Interface):
    """A client endpoint whose server can be asked what it is, without a connection."""

    def ping() -> Deferred[Pong]:
        """Ask once, repeated until there is an answer or the endpoint's timeout."""


class IAnswersPings(Interface):
    """A server endpoint that can answer pings without accepting connections."""

    def answerPings() -> Deferred[IListeningPort]:
        """Bind at once and answer."""
