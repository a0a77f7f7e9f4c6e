from collections.abc import Sequence

from twisted_rudp.kernels.pure import Buffer

def build_run(
    conv: int,
    wnd: int,
    ts: int,
    sn: int,
    una: int,
    frg: int,
    mss: int,
    data: Buffer | tuple[Buffer, ...],
) -> bytes: ...
def take_run(
    run: Buffer, size: int, conv: int, sn: int, limit: int
) -> tuple[int, bytes, int, int, int]: ...
def same_column(run: Buffer, size: int, offset: int, width: int) -> int: ...
def gf_matmul(matrix: Buffer, shards: Sequence[Buffer], length: int) -> bytes: ...
def gf_matmul_table(matrix: Buffer, shards: Sequence[Buffer], length: int) -> bytes: ...
def gf_matmul_ssse3(matrix: Buffer, shards: Sequence[Buffer], length: int) -> bytes: ...
