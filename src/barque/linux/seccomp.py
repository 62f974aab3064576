"""seccomp(2): load a compiled filter. The compiler is `barque.runc.seccomp`."""

from __future__ import annotations

import ctypes

from barque.linux.libc import MACHINE, raise_errno, system_call

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32

INSTRUCTION_BYTES = 8
MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


_seccomp = system_call(
    {"x86_64": 317, "aarch64": 277, "riscv64": 277}[MACHINE],
    ctypes.c_uint,
    ctypes.c_uint,
    ctypes.POINTER(_Program),
)


def load_filter(program: bytes, flags: int = 0) -> int:
    """Install `program` (struct sock_filter, one after the other) on this thread, for ever.

    Needs no_new_privs or CAP_SYS_ADMIN. Returns the listener when flags ask for one, else 0.
    """
    count, rest = divmod(len(program), INSTRUCTION_BYTES)
    if rest or not 0 < count <= MOST_INSTRUCTIONS:
        raise ValueError(f"seccomp filter of {len(program)} bytes")
    value = _Program(count, program)
    result = _seccomp(SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(value))
    if result < 0:
        raise_errno("seccomp")
    return result
