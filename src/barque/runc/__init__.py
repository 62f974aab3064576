"""barque-runc: an OCI runtime, in runc's words. `main` is called by a shim, `command` by a shell.

A container is made by two sides that speak through a `channel`: the runtime (`create`, with
`birth`, `intermediary`, `sources`) and the process that becomes the container's (`init`, a straight
list: `rootfs`, `devices`, `identity`, `seccomp`). `isolation` keeps that one from loading anything
once it is inside. `validate` refuses before anything is made, `undo` takes back what was.

- what exists: `container`, `paths`, `rebuild`; `lifecycle` starts, kills, deletes; `enter` is exec
- limits: `resources`, `device_rules`, `scheduling`, `rdt`; `systemd` over `dbus`; `statistics`
- saved: `checkpoint` and `restore` over `criu`
- a caller with a loop of its own: `at_once`, `begin`
"""
