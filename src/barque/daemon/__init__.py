"""barqued: the Engine API over containerd, networks and volumes. It makes no container itself.

`main` reads `options` into a `config`, takes the roots and starts containerd (`supervisor`);
`serve` listens, has `compose` make every service, and leaves in order. `http` and `routes` are
the edge, thin; the services are packages: `containers`, `images`, `networks`, `sandboxes`,
`volumes`. `database` has the one schema, `paths` every path, `events` what happened.
"""
