"""Announcements and queries of discovery in words."""

from __future__ import annotations

from ipaddress import ip_address

from twisted_rudp.core.engine import Address
from twisted_rudp.discovery import v1, v4
from twisted_rudp.discovery.ids import NodeId
from twisted_rudp.discovery.legacy import Format, describe, format_of
from twisted_rudp.discovery.xdr import FormatError


class DiscoveryReader:
    """Reads the datagrams of one capture."""

    name = "discovery"

    def read(
        self, data: bytes, source: Address, destination: Address, certain: bool = True
    ) -> list[str] | None:
        """
        @param certain: it is known to be of discovery, so that it is also described if it
            is of no known format.
        @return: a line for each part; None if this is not discovery.
        """
        found = format_of(data)
        try:
            if found is Format.V4:
                return _announcement(v4.decode(data))
            if found in (Format.V1_ANNOUNCE, Format.V1_QUERY):
                return [_v1(v1.decode(data))]
            if found is not Format.UNKNOWN:
                return [describe(data)]
        except (FormatError, ValueError) as problem:
            return [f"{found.value}: {problem}"]
        return ["of no format of discovery"] * certain or None


def _announcement(packet: v4.Announcement) -> list[str]:
    name = f" name {packet.name.decode('utf-8', 'replace')}" if packet.name else ""
    lines = [f"v4 announcement of {NodeId(packet.key)}{name}, instance {packet.instance}"]
    if not packet.addresses:
        lines.append("no addresses: the node has gone")
    return [*lines, *(f"at {address}" for address in packet.addresses)]


def _v1(packet: v1.Announcement | v1.Query) -> str:
    node = NodeId.from_v1(packet.node_id)
    if isinstance(packet, v1.Query):
        return f"v1 query for {node}"
    at = f" at {ip_address(packet.ip)}" if packet.ip else ""
    return f"v1 announcement of {node}{at}, port {packet.port}"
