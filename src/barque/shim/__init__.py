"""containerd-shim-barque-v2: the parent of a container's processes. docs/boundaries.md, section 3.

- processes: `zygote` forks shims; of each, `keeper` stays and `shim`, the worker, comes and goes,
  on one `loop`; `binary` is the same by a command line
- services: `server` speaks `ttrpc`, `service` is Task, `sandbox` is Sandbox; `messages` are tables
  for `wire`; `events` go to containerd
- containers: `container`, `process`, `rootfs`, and `runtime`, which forks ours or runs another
- streams: `stdio` from a `uri`; `attach` and `hello` for clients, `relay` below a shim not ours
- logs: `logs` writes `jsonlines` or `locallog`; `logwriter` beside it, `logger` by others
"""
