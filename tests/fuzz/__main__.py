"""
Fuzz, guided by what code is reached where C{atheris} is installed, by chance otherwise::

    python -m tests.fuzz [--seconds 60] [TARGET ...]

The first input that makes a target fail is kept in C{tests/fuzz/corpus} for ever, and
printed; then the next target has its turn.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import traceback
from hashlib import sha256
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS, seeds

LONGEST = 4096


def keep(name: str, data: bytes) -> Path:
    """Put an input into the corpus."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return path


def by_chance(name: str, seconds: float, seed: int) -> bool:
    """
    Change seeds at random.

    @return: nothing failed.
    """
    chance = random.Random(seed)
    known = list(seeds(name)) or [b""]
    end = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < end:
        data = bytearray(chance.choice(known))
        for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
            at = chance.randint(0, len(data))
            data[at : at + chance.choice((0, 1, 1, 4))] = chance.choice(
                (b"", chance.randbytes(1), bytes(2), b"\xff" * 4, chance.choice(known)[:64])
            )
        tried += 1
        try:
            TARGETS[name](bytes(data[:LONGEST]))
        except Exception:
            traceback.print_exc()
            print(f"{name}: failed after {tried} inputs: {keep(name, bytes(data[:LONGEST]))}")
            return False
    print(f"{name}: {tried} inputs, by chance, none failed")
    return True


def guided(name: str, seconds: float) -> bool:
    """
    Have atheris find inputs, in a process of its own.

    @return: nothing failed.
    """
    with tempfile.TemporaryDirectory() as place:
        inputs, failures = Path(place, "inputs"), Path(place, "failures")
        inputs.mkdir()
        failures.mkdir()
        for number, seed in enumerate(seeds(name)):
            (inputs / str(number)).write_bytes(seed)
        code = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.guided", name, str(inputs)),
                f"-max_total_time={int(seconds)}",
                f"-max_len={LONGEST}",
                f"-artifact_prefix={failures}/",
                *("-timeout=20", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"),
            ]
        ).returncode
        for failure in failures.iterdir():
            print(f"{name}: failed: {keep(name, failure.read_bytes())}")
    return code == 0


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description="Fuzz parsers and state machines.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--chance", action="store_true", help="without atheris")
    parser.add_argument("--seed", type=int, default=1, help="where the dice start")
    options = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError:
        options.chance = True
    good = [
        by_chance(name, options.seconds, options.seed)
        if options.chance
        else guided(name, options.seconds)
        for name in options.targets
    ]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
