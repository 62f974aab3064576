"""`barqued --help`: dockerd's options that are there, a line each; and those refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from barque.daemon.options import FLAG_ONLY, NOT_YET, OPTIONS, Option, refusal

_SHAPES = {
    "flag": "",
    "text": " string",
    "number": " int",
    "list": " list",
    "map": " map",
    "pools": " pool",
}
ABOUT = {
    "add-runtime": "Another OCI runtime (NAME=PATH)",
    "allow-direct-routing": "Published ports answer at containers' own addresses too",
    "authorization-plugin": "Plugin that is asked whether a request may pass",
    "bip": "Address and subnet of the default bridge (CIDR)",
    "bip6": "IPv6 address and subnet of the default bridge (CIDR)",
    "bridge": "Bridge of the default network; none for no such network",
    "bridge-accept-fwmark": "Packets with this mark may reach containers (MARK/MASK)",
    "cdi-spec-dir": "Directory of CDI devices",
    "cgroup-parent": "Parent cgroup of containers",
    "config-file": "File of options (default /etc/barque/daemon.json)",
    "containerd": "Address of a containerd to use; without it barqued starts its own",
    "containerd-namespace": "Namespace in containerd (default moby)",
    "cpu-rt-period": "Real-time CPU period of the parent cgroup, in microseconds",
    "cpu-rt-runtime": "Real-time CPU time in a period of the parent cgroup, in microseconds",
    "data-root": "Directory of what survives a reboot (default /var/lib/barque)",
    "debug": "Log more: the level debug",
    "default-address-pool": "Where subnets come from (base=CIDR,size=BITS)",
    "default-cgroupns-mode": "Cgroup namespace of containers: host or private",
    "default-gateway": "Gateway of the default bridge's containers",
    "default-gateway-v6": "IPv6 gateway of the default bridge's containers",
    "default-ipc-mode": "IPC of containers: private or shareable (default private)",
    "default-network-opt": "Option of new networks (DRIVER=NAME=VALUE)",
    "default-runtime": "OCI runtime of containers that name none (default barque)",
    "default-shm-size": "Size of /dev/shm (default 64MiB)",
    "default-stop-timeout": "Seconds until a stop becomes a kill, -1 for never (default 10)",
    "default-ulimit": "Resource limit of containers (NAME=SOFT:HARD)",
    "dns": "Name server of containers",
    "dns-opt": "Option of the containers' resolvers",
    "dns-search": "Search domain of containers",
    "exec-opt": "Option of the runtime (native.cgroupdriver=cgroupfs|systemd)",
    "exec-root": "Directory of what a reboot may clear (default /run/barque)",
    "experimental": "Have what is experimental: checkpoints",
    "feature": "Turn a feature on or off (NAME=true)",
    "firewall-backend": "nftables or iptables (default: what is installed)",
    "fixed-cidr": "Part of the default bridge's subnet that containers get addresses of",
    "fixed-cidr-v6": "The same of its IPv6 subnet",
    "group": "Group that may use the unix socket (default docker)",
    "host": "Address to listen on: unix://PATH, tcp://HOST:PORT or fd://",
    "host-gateway-ip": "What host-gateway in --add-host stands for",
    "http-proxy": "Proxy of requests to registries by http",
    "https-proxy": "Proxy of requests to registries by https",
    "icc": "Let containers of the default bridge reach each other (default true)",
    "idle-timeout": "Seconds without work until --on-demand ends the daemon (default 60)",
    "init": "Run an init in each container that forwards signals and reaps",
    "init-path": "Program of --init",
    "insecure-registry": "Registry that may be asked by http or with any certificate",
    "ip": "Host address that ports are published on (default 0.0.0.0)",
    "ip-forward": "Turn forwarding on (default true)",
    "ip-forward-no-drop": "Leave forwarding of what is not ours as it is",
    "ip-masq": "Give what leaves the default bridge the host's address (default true)",
    "ip6tables": "Have firewall rules for IPv6 (default true)",
    "iptables": "Have firewall rules (default true)",
    "ipv6": "IPv6 on the default bridge",
    "label": "Label of the daemon (KEY=VALUE)",
    "live-restore": "Let containers run on while no daemon does (default true)",
    "log-driver": "Log driver of containers (default json-file)",
    "log-format": "Form of the daemon's own log: text or json (default text)",
    "log-level": "debug, info, warn, error or fatal (default info)",
    "log-opt": "Option of the log driver (NAME=VALUE)",
    "max-concurrent-downloads": "Layers of a pull under way at once (default 3)",
    "max-concurrent-uploads": "Layers of a push under way at once (default 5)",
    "max-download-attempts": "Tries of a layer (default 5)",
    "metrics-addr": "Serve metrics for Prometheus here (HOST:PORT)",
    "min-api-version": "Oldest version of the API to answer",
    "mtu": "MTU of the default bridge's containers",
    "no-new-privileges": "Containers cannot gain privileges",
    "no-proxy": "Hosts that need no proxy, by commas",
    "on-demand": "End when there was nothing to do for --idle-timeout",
    "oom-score-adjust": "How soon the kernel ends the daemon, -1000 to 1000",
    "pidfile": "File with the daemon's process id (default EXEC-ROOT/barqued.pid)",
    "proxies": "Proxies of requests to registries (http-proxy=URL)",
    "publish-host-policy": "The host's own input rules decide on published ports too",
    "raw-logs": "No colours in the daemon's log",
    "registry-mirror": "Registry that is asked before Docker Hub (URL)",
    "seccomp-profile": "File of the seccomp profile, or unconfined",
    "selinux-enabled": "Label containers for SELinux",
    "shutdown-timeout": "Seconds that the containers' end may take, -1 for ever (default 15)",
    "storage-driver": "overlay2, vfs, btrfs, erofs or devicemapper (default overlay2)",
    "storage-opt": "Option of the storage driver (NAME=VALUE)",
    "tls": "Speak TLS; --tlsverify says so too",
    "tlscacert": "CA that clients' certificates must be signed by",
    "tlscert": "Certificate of the daemon",
    "tlskey": "Key of the daemon",
    "tlsverify": "Speak TLS, and only to clients with a certificate",
    "userland-proxy": "Serve published ports by a proxy where no rule can (default true)",
    "userland-proxy-path": "Program of --userland-proxy",
    "userns-remap": "User whose subordinate ids containers get (USER, USER:GROUP or default)",
    "validate": "Check the options and the file, then end",
}


def text() -> str:
    """The whole page, without a line's end. Options by the alphabet, as dockerd has them."""
    alone = [
        *_rows(FLAG_ONLY),
        ("  -h, --help", "Show this"),
        ("  -v, --version", "Show the version"),
    ]
    return "\n".join(
        (
            "Usage:  barqued [OPTIONS]",
            "",
            "Answer the Docker Engine API",
            "",
            "Options, which are keys of daemon.json too:",
            *_table(_rows(OPTIONS)),
            "",
            "On the command line alone:",
            *_table(alone),
            "",
            "Of dockerd, and not there:",
            *(f"      --{name} {refusal(name)}" for name in sorted(NOT_YET)),
        )
    )


def _rows(options: Iterable[Option]) -> list[tuple[str, str]]:
    return [_row(option) for option in sorted(options, key=lambda option: option.flag)]


def _row(option: Option) -> tuple[str, str]:
    short = f"-{option.short}, " if option.short else "    "
    return f"  {short}--{option.flag}{_SHAPES[option.kind]}", ABOUT[option.flag]


def _table(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max(len(left) for left, _ in rows)
    return (f"{left:{width}}  {about}" for left, about in rows)
