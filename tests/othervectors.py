"""
Makes another folder of golden vectors out of ours, of the same schema: other keys, bytes
and names, fewer cases. It proves nothing about the code, for where bytes are sealed
or encoded anew, the code under test does it; but tests that compare with anything but
the files fail with it::

    python -m tests.othervectors FOLDER [SEED]
    RUDP_VECTORS=FOLDER python -m twisted.trial tests.qotp
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from tests.vectors import OWN, load, names
from twisted_rudp.qotp import wire
from twisted_rudp.qotp.keys import KeyPair
from twisted_rudp.qotp.protection import INITIATOR, RESPONDER, Cipher, nonce_of
from twisted_rudp.qotp.wire import Kind

INDEPENDENT = {
    "acceptance",
    "captures",
    "cases",
    "certificates",
    "ciphers",
    "decode_cases",
    "encode_cases",
    "matrices",
    "seed_strings",
    "sequences",
    "streams",
    "traces",
    "transcripts",
    "vectors",
}
"""Lists whose items have nothing to do with each other."""

KINDS = {
    "init_rcv": (Kind.INIT_RCV, "b"),
    "init_crypto_rcv": (Kind.INIT_CRYPTO_RCV, "b"),
    "init_crypto_snd": (Kind.INIT_CRYPTO_SND, "a"),
    "data": (Kind.DATA, "a"),
}
MESSAGES = {
    "InitRcv": (Kind.INIT_RCV, "responder"),
    "InitCryptoSnd": (Kind.INIT_CRYPTO_SND, "initiator"),
    "InitCryptoRcv": (Kind.INIT_CRYPTO_RCV, "responder"),
    "Data": (Kind.DATA, "initiator"),
}
DIRECTIONS = {
    "initiator_to_responder": INITIATOR,
    "responder_to_initiator": RESPONDER,
    "initiator": INITIATOR,
    "responder": RESPONDER,
}


class Maker:
    """One folder."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self._folder = folder
        self._chance = Random(seed)
        self._flip = self._chance.randrange(1, 256)

    def make(self) -> None:
        """Write all files."""
        for room in sorted(path for path in OWN.iterdir() if path.is_dir()):
            (self._folder / room.name).mkdir(parents=True, exist_ok=True)
            for name in names(room.name, ""):
                content = load(room.name, name)
                if name != "v4_receive":
                    # What one datagram there does depends on those before.
                    content = self._thinned(content)
                change = getattr(self, f"_{room.name}", None)
                if change is not None:
                    change(name, content)
                text = json.dumps(content)
                (self._folder / room.name / f"{name}.json").write_text(text, encoding="utf-8")

    def _thinned(self, value: Any, key: str = "") -> Any:
        """About half of what is independent."""
        if isinstance(value, dict):
            return {name: self._thinned(item, name) for name, item in value.items()}
        if isinstance(value, list):
            items = [self._thinned(item) for item in value]
            if key in INDEPENDENT and len(items) > 1:
                kept = self._chance.sample(range(len(items)), len(items) // 2 + 1)
                return [items[number] for number in sorted(kept)]
            return items
        return value

    def _other(self, data: bytes) -> bytes:
        """Other bytes, the same ones for the same."""
        return bytes(byte ^ self._flip for byte in data)

    def _pair(self) -> dict[str, str]:
        pair = KeyPair(self._chance.randbytes(32))
        return {"private": pair.private_hex(), "public": pair.public.hex()}

    # RakNet

    def _raknet(self, name: str, content: Any) -> None:
        if name == "codec":
            for vector in content["vectors"]:
                self._values(vector)
        elif name == "malformed":
            for number, vector in enumerate(content["vectors"]):
                vector["name"] = f"odd {number}"

    def _values(self, vector: dict[str, Any]) -> None:
        """Other times and GUIDs, in the fields and on the wire, where their bytes are found."""
        for field, value in vector["fields"].items():
            if field.endswith("_time") or field == "guid_i64":
                other = value ^ self._flip
                was, will_be = (number.to_bytes(8, "big").hex() for number in (value, other))
                vector["hex"] = vector["hex"].replace(was, will_be)
                vector["fields"][field] = other

    # QOTP

    def _qotp(self, name: str, content: Any) -> None:
        if name == "keys":
            self._keys(content)
        elif name == "keylog":
            self._keylog(content)
        elif name in KINDS:
            self._sealed(name, content)
        elif name == "init_snd":
            self._init_snd(content)
        elif name == "epoch_rollover":
            self._epochs(content)
        elif name == "receive_buffer":
            for case in content["cases"]:
                for step in case["steps"]:
                    if "data" in step:
                        step["data"] = self._other(bytes.fromhex(step["data"])).hex()
        elif name.startswith("transcript_"):
            self._transcript(content)

    def _set(self) -> dict[str, Any]:
        """The keys of the set, made at the first call."""
        if not hasattr(self, "_made"):
            pairs = {name: self._pair() for name in ("a_id", "a_ep", "b_id", "b_ep")}
            near = KeyPair.from_hex(pairs["a_ep"]["private"])
            public = {name: bytes.fromhex(pair["public"]) for name, pair in pairs.items()}
            name = wire.connection_id(near.public)
            self._made = {
                "keys": pairs,
                "shared_secrets": {
                    "ephemeral_ephemeral": near.exchange(public["b_ep"]).hex(),
                    "initiator_ephemeral_responder_identity": near.exchange(public["b_id"]).hex(),
                },
                "connection_id": {
                    "wire": name.hex(),
                    "u64": str(int.from_bytes(name, "little")),
                },
            }
        return self._made

    def _keys(self, content: Any) -> None:
        content.update(self._set())
        for case in content["seed_strings"]:
            case["seed_string"] = self._chance.randbytes(9).hex()
            private = sha256(case["seed_string"].encode()).digest()
            case["private"], case["public"] = private.hex(), KeyPair(private).public.hex()

    def _keylog(self, content: Any) -> None:
        known = self._set()
        number = f"{int(known['connection_id']['u64']):x}"
        lines = [line.split() for line in content["text"].splitlines()]
        for line in lines:
            line[1] = number
        lines[0][2] = known["shared_secrets"]["ephemeral_ephemeral"]
        lines[1][2] = self._chance.randbytes(32).hex()
        content["text"] = "".join(" ".join(line) + "\n" for line in lines)
        content["connection_id"] = known["connection_id"]

    def _cipher(self, kind: Kind) -> Cipher:
        opening = kind is Kind.INIT_CRYPTO_SND
        which = "initiator_ephemeral_responder_identity" if opening else "ephemeral_ephemeral"
        return Cipher(bytes.fromhex(self._set()["shared_secrets"][which]))

    def _public(self, name: str) -> bytes:
        return bytes.fromhex(self._set()["keys"][name]["public"])

    def _sealed(self, name: str, content: Any) -> None:
        kind, who = KINDS[name]
        identity = bytes.fromhex(self._set()["connection_id"]["wire"])
        keys = self._public(f"{who}_ep"), self._public(f"{who}_id")
        prefix = wire.prefix_of(kind, identity, *keys)
        for case in content["cases"]:
            payload = self._other(bytes.fromhex(case["payload"]))
            case["sn"] = case["sn"] ^ self._flip
            number = case["epoch"] << 48 | case["sn"]
            direction = DIRECTIONS[case["direction"]]
            case["payload"] = payload.hex()
            case["nonce"] = nonce_of(number, direction).hex()
            case["parts"]["header_and_aad"] = prefix.hex()
            plain = payload
            if kind is Kind.INIT_CRYPTO_SND:
                plain = wire.with_fill(payload, case["mtu"])
            case["datagram"] = self._cipher(kind).seal(prefix, number, direction, plain).hex()

    def _init_snd(self, content: Any) -> None:
        for case in content["cases"]:
            datagram = wire.init_snd(self._public("a_ep"), self._public("a_id"), case["mtu"])
            case["datagram"] = datagram.hex()

    def _epochs(self, content: Any) -> None:
        old = Cipher(bytes.fromhex(content["shared_secrets"]["ephemeral_ephemeral"]))
        before = bytes((Kind.DATA,)) + bytes.fromhex(content["connection_id"]["wire"])
        content.update(self._set())
        after = bytes((Kind.DATA,)) + bytes.fromhex(content["connection_id"]["wire"])

        def renewed(datagram: str, direction: int, epoch: int) -> str:
            found = old.open(bytes.fromhex(datagram), len(before), direction, epoch)
            assert found is not None
            return self._cipher(Kind.DATA).seal(after, found[0], direction, found[1]).hex()

        content["sequences"] = [
            sequence
            for sequence in content["sequences"]
            if all(packet["epoch"] <= wire.LAST_EPOCH for packet in sequence["packets"])
        ]
        for sequence in content["sequences"]:
            direction = DIRECTIONS[sequence["direction"]]
            for packet in sequence["packets"]:
                packet["datagram"] = renewed(packet["datagram"], direction, packet["epoch"])
        for case in content["acceptance"]:
            case["datagram"] = renewed(case["datagram"], INITIATOR, case["packet_epoch"])

    def _transcript(self, content: Any) -> None:
        pairs = content["keys"] = {name: self._pair() for name in content["keys"]}
        public = {name: bytes.fromhex(pair["public"]) for name, pair in pairs.items()}
        near = KeyPair.from_hex(pairs["initiator_ephemeral"]["private"])
        session = Cipher(near.exchange(public["responder_ephemeral"]))
        opening = Cipher(near.exchange(public["responder_identity"]))
        identity = wire.connection_id(near.public)
        for event in content["events"]:
            if event["event"] != "datagram":
                continue
            if event["message"] == "InitSnd":
                keys = public["initiator_ephemeral"], public["initiator_identity"]
                event["datagram"] = wire.init_snd(*keys, content["mtu"])[:65].hex()
                continue
            kind, _ = MESSAGES[event["message"]]
            who = event["from"]
            payload = self._said(event)
            cipher, plain = session, payload
            if kind is Kind.INIT_CRYPTO_SND:
                cipher, plain = opening, wire.with_fill(payload, content["mtu"])
            prefix = wire.prefix_of(
                kind, identity, public[f"{who}_ephemeral"], public[f"{who}_identity"]
            )
            number = event["epoch"] << 48 | event["sn"]
            event["datagram"] = cipher.seal(prefix, number, DIRECTIONS[who], plain).hex()
        for streams in content["delivered"].values():
            for stream, data in streams.items():
                streams[stream] = self._other(bytes.fromhex(data)).hex()

    def _said(self, event: dict[str, Any]) -> bytes:
        """The payload with other data, which stand at its end."""
        payload = bytes.fromhex(event["payload"])
        stream = (event["decoded"] or {}).get("stream")
        if stream is not None and stream["data"]:
            data = bytes.fromhex(stream["data"])
            assert payload.endswith(data)
            payload = payload[: -len(data)] + self._other(data)
            stream["data"] = self._other(data).hex()
            event["payload"] = payload.hex()
        return payload


if __name__ == "__main__":
    Maker(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1).make()
