"""libseccomp: the compiler from rules to a BPF program. Loaded on first use; takes milliseconds."""

from __future__ import annotations

import ctypes
import os

from barque.errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARY = "libseccomp.so.2"

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ARCHITECTURES = {
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_LOONGARCH64": "loongarch64",
    "SCMP_ARCH_M68K": "m68k",
    "SCMP_ARCH_MIPS": "mips",
    "SCMP_ARCH_MIPS64": "mips64",
    "SCMP_ARCH_MIPS64N32": "mips64n32",
    "SCMP_ARCH_MIPSEL": "mipsel",
    "SCMP_ARCH_MIPSEL64": "mipsel64",
    "SCMP_ARCH_MIPSEL64N32": "mipsel64n32",
    "SCMP_ARCH_PARISC": "parisc",
    "SCMP_ARCH_PARISC64": "parisc64",
    "SCMP_ARCH_PPC": "ppc",
    "SCMP_ARCH_PPC64": "ppc64",
    "SCMP_ARCH_PPC64LE": "ppc64le",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_S390": "s390",
    "SCMP_ARCH_S390X": "s390x",
    "SCMP_ARCH_SH": "sh",
    "SCMP_ARCH_SHEB": "sheb",
}
RESOLVED_ON_ANOTHER_ARCHITECTURE = -1  # __NR_SCMP_ERROR: the name is in no table
EEXIST = 17


class Argument(ctypes.Structure):
    """One comparison of a system call's argument: struct scmp_arg_cmp."""

    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


class Compiler:
    """One filter under construction."""

    def __init__(self, default_action: int) -> None:
        self.library = _load()
        context = self.library.seccomp_init(default_action)
        if not context:
            raise InvalidArgument(f"seccomp default action {default_action:#x} is not supported")
        self.context = ctypes.c_void_p(context)

    def add_architecture(self, name: str) -> None:
        token = self.library.seccomp_arch_resolve_name(ARCHITECTURES[name].encode())
        if not token:
            raise Unsupported(f"seccomp architecture {name} is not known to {LIBRARY}")
        result = self.library.seccomp_arch_add(self.context, token)
        if result < 0 and result != -EEXIST:
            raise InvalidArgument(f"seccomp architecture {name}: {os.strerror(-result).lower()}")

    def add_rule(self, action: int, name: str, arguments: Iterable[Argument]) -> None:
        """Rules for a name this library does not know are left out, as runc leaves them."""
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number == RESOLVED_ON_ANOTHER_ARCHITECTURE:
            return
        compared = tuple(arguments)
        array = (Argument * len(compared))(*compared)
        result = self.library.seccomp_rule_add_array(
            self.context, action, number, len(compared), array
        )
        if result < 0:
            raise InvalidArgument(f"seccomp rule for {name}: {os.strerror(-result).lower()}")

    def newest_call(self, architecture: str, names: Iterable[str]) -> tuple[int, int]:
        """The token of an architecture (empty: this machine's own), and the highest number there
        of these system calls; below 0: it has none of them."""
        if architecture:
            token = self.library.seccomp_arch_resolve_name(ARCHITECTURES[architecture].encode())
        else:
            token = self.library.seccomp_arch_native()
        resolve = self.library.seccomp_syscall_resolve_name_arch
        return token, max((resolve(token, name.encode()) for name in names), default=-1)

    def export(self) -> bytes:
        """The program: struct sock_filter, one after the other."""
        fd = os.memfd_create("filter", os.MFD_CLOEXEC)
        try:
            result = self.library.seccomp_export_bpf(self.context, fd)
            if result < 0:
                raise InvalidArgument(f"seccomp filter: {os.strerror(-result).lower()}")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def close(self) -> None:
        self.library.seccomp_release(self.context)


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise Unsupported(f"linux.seccomp needs {LIBRARY}, which is not installed") from None
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_arch_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_syscall_resolve_name_arch.argtypes = (ctypes.c_uint32, ctypes.c_char_p)
    library.seccomp_arch_native.restype = ctypes.c_uint32
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Argument),
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    return library
