"""What ports need of a reactor."""

from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReactorUDP


class IPortReactor(IReactorTime, IReactorUDP):
    """What every port needs of a reactor."""


class IDescriptorReactor(IReactorTime, IReactorFDSet):
    """What a port with a descriptor of its own needs (UDP-10)."""
