"""The cipher and the key of a KCP endpoint, from arguments of which some exclude others."""

from __future__ import annotations

from pathlib import Path

from twisted_rudp.kcp.keys import Secret, from_hex, from_password


def secretFor(
    crypt: str | None, key: str | None, password: str | None, keyFile: str | None
) -> Secret:
    """
    The cipher and its key, of which at most one source is given.

    @raise ValueError: something about them is not right; repeats no secret.
    """
    given = [
        name
        for name, value in (("key", key), ("password", password), ("keyFile", keyFile))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: give one of them")
    if keyFile is not None:
        try:
            key = Path(keyFile).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            problem = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ValueError(f"keyFile={keyFile!r}: {problem}") from None
    if key is not None:
        return Secret(crypt, from_hex(key))
    if password is not None:
        if not password:
            raise ValueError("password: an empty one protects nothing")
        return Secret(crypt, from_password(password))
    return Secret(crypt, None)
