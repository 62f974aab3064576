"""barque-containerd: containerd's gRPC services over one database, one content store, and shims.

- the server: `main` wires all, `services` lists what it serves, `grpc` and `http2` speak,
  `config` and `config_file` are containerd's flags and file
- stores: `stores` opens `metadata`, `content` and `snapshots`; `images`, `containers`, `leases`,
  `namespaces` and `sandboxes` are rows; `references` say what keeps what, `collector` removes
- layers: `diff` applies and makes them, `settling` puts them on the disk, `transfer` moves images
- what runs: `supervision` starts `shims`, `tasks` asks them, `sandbox_controller` holds pods,
  `checkpoints` saves tasks, `restarts` keeps them, `events` tell of all
- for others: `client` is what the daemon may import, `proto` has the messages
"""
