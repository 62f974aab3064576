"""The kernel: a function a call, by the call's name, OSError with its number and path. No policy.

The only place of ctypes, ioctl numbers, netlink and control groups; `libc` has the prototypes.
Standard library only: the runtime and the shims load this.
"""
