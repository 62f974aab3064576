"""Docker's default seccomp profile as a table, and its conditions resolved for one container.

A profile is Docker's document (what `--security-opt seccomp=FILE` carries): rules with conditions
on capabilities, architecture and kernel. `resolve` gives the OCI `linux.seccomp` object.
The default denies by EPERM what is not listed; it gives clone3 ENOSYS so that libc falls back to
clone, whose flags can be inspected; and it denies AF_ALG (38) and AF_VSOCK (40) to socket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from barque import errors

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"
EPERM, ENOSYS = 1, 38
NEW_NAMESPACE_FLAGS = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""

_ALWAYS = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2
dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64
fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid getegid32
geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp
getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday
getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1
inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents io_pgetevents_time64
ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock
mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget
msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect
open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv
recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending
rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max
sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select
semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer
setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid
setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx
symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
utimes vfork vmsplice wait4 waitid waitpid write writev
"""
ALWAYS = _ALWAYS.split()

SUB_ARCHITECTURES: Mapping[str, tuple[str, ...]] = {
    "X86_64": ("X86", "X32"),
    "AARCH64": ("ARM",),
    "MIPS64": ("MIPS", "MIPS64N32"),
    "MIPS64N32": ("MIPS", "MIPS64"),
    "MIPSEL64": ("MIPSEL", "MIPSEL64N32"),
    "MIPSEL64N32": ("MIPSEL", "MIPSEL64"),
    "S390X": ("S390",),
    "RISCV64": (),
    "LOONGARCH64": (),
}
MACHINES: Mapping[str, tuple[str, str]] = {
    "x86_64": ("X86_64", "amd64"),
    "aarch64": ("AARCH64", "arm64"),
    "s390x": ("S390X", "s390x"),
    "riscv64": ("RISCV64", "riscv64"),
    "loongarch64": ("LOONGARCH64", "loong64"),
    "mips64": ("MIPS64", "mips64"),
    "ppc64le": ("PPC64LE", "ppc64le"),
    "armv7l": ("ARM", "arm"),
    "i686": ("X86", "x86"),
}
"""`uname -m` -> libseccomp's name, and the name that conditions use."""

BY_ARCHITECTURE: tuple[tuple[tuple[str, ...], str], ...] = (
    (("ppc64le",), "sync_file_range2 swapcontext"),
    (
        ("arm", "arm64"),
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (("riscv64",), "riscv_flush_icache"),
)
BY_CAPABILITY: Mapping[str, str] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie "
        "lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount "
        "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog "
        "umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": (
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"
    ),
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}
SOCKET_FAMILIES = ((38, "LT"), (39, "EQ"), (40, "GT"))
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)


def _allow(names: str | list[str], **conditions: Any) -> dict[str, Any]:
    listed = names.split() if isinstance(names, str) else names
    return {"names": listed, "action": ALLOW, **conditions}


def _argument(index: int, value: int, operator: str) -> list[dict[str, Any]]:
    return [{"index": index, "value": value, "op": f"SCMP_CMP_{operator}"}]


@lru_cache(maxsize=1)
def default_profile() -> dict[str, Any]:
    """Docker's default profile, as Docker writes it."""
    not_admin = {"caps": ["CAP_SYS_ADMIN"]}
    s390 = ["s390", "s390x"]
    masked = NEW_NAMESPACE_FLAGS
    rules = [
        _allow(ALWAYS),
        _allow("process_vm_readv process_vm_writev ptrace", includes={"minKernel": "4.8"}),
        *(_allow("socket", args=_argument(0, *family)) for family in SOCKET_FAMILIES),
        *(_allow("personality", args=_argument(0, value, "EQ")) for value in PERSONALITIES),
        *(_allow(names, includes={"arches": list(arches)}) for arches, names in BY_ARCHITECTURE),
        *(_allow(names, includes={"caps": [cap]}) for cap, names in BY_CAPABILITY.items()),
        _allow(
            "clone",
            args=_argument(0, masked, "MASKED_EQ"),
            excludes={**not_admin, "arches": s390},
        ),
        _allow(
            "clone",
            args=_argument(1, masked, "MASKED_EQ"),
            includes={"arches": s390},
            excludes=not_admin,
        ),
        {"names": ["clone3"], "action": ERRNO, "errnoRet": ENOSYS, "excludes": not_admin},
    ]
    return {
        "defaultAction": ERRNO,
        "defaultErrnoRet": EPERM,
        "archMap": [
            {
                "architecture": f"SCMP_ARCH_{arch}",
                "subArchitectures": [f"SCMP_ARCH_{sub}" for sub in subs],
            }
            for arch, subs in SUB_ARCHITECTURES.items()
        ],
        "syscalls": rules,
    }


@lru_cache(maxsize=64)
def default(capabilities: frozenset[str], machine: str, kernel: tuple[int, int]) -> dict[str, Any]:
    """The default profile for a process that may have `capabilities`. Shared: do not change."""
    return resolve(default_profile(), capabilities, machine, kernel)


@lru_cache(maxsize=16)
def custom(
    text: str, capabilities: frozenset[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """A profile given by the user. Raises InvalidArgument for what is not a profile."""
    try:
        profile = json.loads(text)
        if not isinstance(profile, dict) or not isinstance(profile.get("defaultAction"), str):
            raise ValueError("defaultAction is missing")
        return resolve(profile, capabilities, machine, kernel)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise errors.InvalidArgument(f"Decoding seccomp profile failed: {error}") from None


def resolve(
    profile: Mapping[str, Any],
    capabilities: frozenset[str],
    machine: str,
    kernel: tuple[int, int],
) -> dict[str, Any]:
    """Docker's profile as the OCI object: conditions decided, architectures of this machine."""
    arch, condition_name = MACHINES.get(machine, (machine.upper(), machine))
    rules = []
    for rule in profile.get("syscalls") or ():
        if not _applies(rule, capabilities, condition_name, kernel):
            continue
        names = rule.get("names") or [rule["name"]]
        kept: dict[str, Any] = {"names": list(names), "action": rule["action"]}
        if rule.get("errnoRet") is not None:
            kept["errnoRet"] = rule["errnoRet"]
        if rule.get("args"):
            kept["args"] = [_kept_argument(argument) for argument in rule["args"]]
        rules.append(kept)
    result: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": _architectures(profile, f"SCMP_ARCH_{arch}"),
        "syscalls": rules,
    }
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if profile.get(key):
            result[key] = profile[key]
    return result


def _kept_argument(argument: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: argument[key] for key in ("index", "value", "op")}
    if argument.get("valueTwo"):
        kept["valueTwo"] = argument["valueTwo"]
    return kept


def _architectures(profile: Mapping[str, Any], native: str) -> list[str]:
    if profile.get("architectures"):
        return list(profile["architectures"])
    for entry in profile.get("archMap") or ():
        if entry["architecture"] == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return [native]


def _applies(
    rule: Mapping[str, Any],
    capabilities: frozenset[str],
    arch: str,
    kernel: tuple[int, int],
) -> bool:
    """`includes` must all hold, `excludes` must none (the rule Docker's profiles are read by)."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if excludes.get("arches") and arch in excludes["arches"]:
        return False
    if any(capability in capabilities for capability in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]):
        return False
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if not all(capability in capabilities for capability in includes.get("caps") or ()):
        return False
    return not (includes.get("minKernel") and kernel < _version(includes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)
