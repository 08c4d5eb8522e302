"""Decode the memory instructions of a cubin: SASS of sm_70 and later, in which every instruction has 128 bits.

The encoding is not documented. `test_sass.py` checks what is used of it against probe kernels, for each architecture:

- bits 0 to 11 of the first 64-bit word: the opcode; loads and stores of 256 bits have opcodes of their own;
- bits 9 to 11 of the second: the size of other loads and stores;
- bits 46 to 48 of the second: the scoreboard that a load releases, 7 for none; bits 52 to 57: those that an instruction
  waits for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

# With an address in registers, and with a descriptor in uniform registers.
_LOADS, _STORES = (0x381, 0x981), (0x386, 0x986)
_LOAD_256, _STORE_256 = 0x97E, 0x97F
_BRANCH = 0x947
# Bytes are zero-extended, or sign-extended.
_BITS = {0: 8, 1: 8, 2: 16, 3: 16, 4: 32, 5: 64, 6: 128}
_CODE = ".text."


class Instruction(NamedTuple):
    low: int
    high: int

    @property
    def opcode(self) -> int:
        return self.low & 0xFFF

    @property
    def is_load(self) -> bool:
        """Return whether it loads from global memory."""
        return self.opcode in (*_LOADS, _LOAD_256)

    @property
    def is_store(self) -> bool:
        """Return whether it stores to global memory."""
        return self.opcode in (*_STORES, _STORE_256)

    @property
    def bits(self) -> int:
        """Return how many bits a thread loads or stores."""
        return 256 if self.opcode in (_LOAD_256, _STORE_256) else _BITS[self.high >> 9 & 7]

    @property
    def scoreboard(self) -> int:
        return self.high >> 46 & 7

    @property
    def waits(self) -> int:
        """Return a mask of scoreboards."""
        return self.high >> 52 & 0x3F


def kernels(cubin: bytes) -> dict[str, list[Instruction]]:
    """Return the instructions of each kernel of an ELF file of 64 bits."""
    assert cubin[:5] == b"\x7fELF\x02", "no ELF file of 64 bits"
    (table,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + k * size) for k in range(count)]
    found = {}
    for name, _, _, _, offset, length in headers:
        start = headers[names][4] + name
        section = cubin[start : cubin.index(0, start)].decode()
        if section.startswith(_CODE):
            code = cubin[offset : offset + length]
            found[section.removeprefix(_CODE)] = [Instruction(*words) for words in struct.iter_unpack("<QQ", code)]
    return found


def loads(code: list[Instruction]) -> list[int]:
    """Return the bits of each load from global memory."""
    return [line.bits for line in code if line.is_load]


def stores(code: list[Instruction]) -> list[int]:
    """Return the bits of each store to global memory."""
    return [line.bits for line in code if line.is_store]


def wide_loads_in_flight(code: list[Instruction]) -> int:
    """Return the most loads of 128 bits or more that are issued, without a branch between, before one is waited for."""
    return max(_pending(code), default=0)


def _pending(code: list[Instruction]) -> Iterator[int]:
    pending: list[int] = []
    for line in code:
        if line.opcode == _BRANCH:
            pending.clear()
        pending = [scoreboard for scoreboard in pending if not line.waits >> scoreboard & 1]
        if line.is_load and line.bits >= 128:
            pending.append(line.scoreboard)
        yield len(pending)
