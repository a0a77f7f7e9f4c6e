"""Putting split messages together again (raknet.md 7)."""

from __future__ import annotations

from twisted_rudp.raknet.profiles import Settings
from twisted_rudp.raknet.wire import WITHOUT_RECEIPT, Frame, Split


class Disagreement(ValueError):
    """A fragment that cannot be one."""


class _Partial:
    """
    A message some fragments of which are here. Memory follows what was received,
    never what was announced.
    """

    __slots__ = ("first", "fragments", "kind", "size", "total", "touched")

    def __init__(self, frame: Frame, total: int) -> None:
        self.first = frame
        self.kind = kind_of(frame)
        self.total = total
        self.fragments: dict[int, bytes] = {}
        self.size = 0
        self.touched = 0


def kind_of(frame: Frame) -> tuple[object, ...]:
    """What all fragments of one message have in common."""
    return (WITHOUT_RECEIPT[frame.reliability], frame.order, frame.channel, frame.sequence)


class Splits:
    """
    The incomplete messages of one session.

    @ivar size: bytes held.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._partials: dict[int, _Partial] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._partials)

    def has_room(self, split: Split, now: int) -> bool:
        """
        Whether a fragment can be taken in, if it is possible at all. What is refused
        for lack of room must not be acknowledged: the rest of its message would come in
        vain.
        """
        partials, most = self._partials, self._settings.splits
        if split.ident in partials or len(partials) < most or not self._is_possible(split):
            return True
        self.expire(now)
        return len(partials) < most

    def _is_possible(self, split: Split) -> bool:
        return 0 < split.total <= self._settings.split_count and split.number < split.total

    def add(self, frame: Frame, now: int) -> Frame | None:
        """
        Take in a fragment.

        @return: the whole message as an unsplit frame, when this completes it.
        @raise Disagreement: it is not possible, or disagrees with earlier ones.
        """
        split = frame.split
        assert split is not None
        if not self._is_possible(split):
            raise Disagreement("impossible split")
        partial = self._partials.get(split.ident)
        if partial is None:
            if not self.has_room(split, now):
                raise Disagreement("too many split messages")
            partial = _Partial(frame._replace(payload=b""), split.total)
            self._partials[split.ident] = partial
        elif partial.total != split.total or partial.kind != kind_of(frame):
            raise Disagreement("not like the fragments before")
        if split.number not in partial.fragments:
            partial.fragments[split.number] = bytes(frame.payload)
            partial.size += len(frame.payload)
            self.size += len(frame.payload)
            partial.touched = now
        if len(partial.fragments) < partial.total:
            return None
        del self._partials[split.ident]
        self.size -= partial.size
        whole = b"".join(partial.fragments[index] for index in range(partial.total))
        return partial.first._replace(payload=whole, split=None)

    def expire(self, now: int) -> int:
        """
        Forget messages that had no new fragment for too long.

        @return: how many.
        """
        span = self._settings.split_expiry
        old = [ident for ident, one in self._partials.items() if one.touched + span <= now]
        for ident in old:
            self.size -= self._partials.pop(ident).size
        return len(old)
