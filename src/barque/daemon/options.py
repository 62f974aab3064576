"""dockerd's options: the flag, the key in daemon.json, the shape; and those not there yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["flag", "text", "number", "list", "map", "pools"]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its flag, its key in daemon.json, and its shape."""

    flag: str  # without the dashes
    kind: Kind
    key: str = ""  # in daemon.json, when it is not the flag
    short: str = ""
    attribute: str = ""  # of Config, when it is not the flag with underscores

    @property
    def json_key(self) -> str:
        return self.key or self.flag

    @property
    def name(self) -> str:
        return self.attribute or self.flag.replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option("data-root", "text"),
    Option("exec-root", "text"),
    Option("pidfile", "text", short="p"),
    Option("host", "list", key="hosts", short="H", attribute="hosts"),
    Option("group", "text", short="G"),
    Option("containerd", "text"),
    Option("containerd-namespace", "text"),
    Option("storage-driver", "text", short="s"),
    Option("debug", "flag", short="D"),
    Option("log-level", "text", short="l"),
    Option("label", "list", key="labels", attribute="labels"),
    Option("tls", "flag"),
    Option("tlsverify", "flag"),
    Option("tlscacert", "text"),
    Option("tlscert", "text"),
    Option("tlskey", "text"),
    Option("bip", "text"),
    Option("bridge", "text", short="b"),
    Option("fixed-cidr", "text"),
    Option("ipv6", "flag"),
    Option("fixed-cidr-v6", "text"),
    Option("bip6", "text"),
    Option("default-gateway-v6", "text"),
    Option("mtu", "number"),
    Option("dns", "list"),
    Option("dns-opt", "list", key="dns-opts", attribute="dns_opts"),
    Option("dns-search", "list"),
    Option("ip", "text"),
    Option("insecure-registry", "list", key="insecure-registries", attribute="insecure_registries"),
    Option("max-concurrent-downloads", "number"),
    Option("max-concurrent-uploads", "number"),
    Option("registry-mirror", "list", key="registry-mirrors", attribute="registry_mirrors"),
    Option("proxies", "map"),
    Option("default-runtime", "text"),
    Option("add-runtime", "map", key="runtimes", attribute="runtimes"),
    Option("log-driver", "text"),
    Option("log-opt", "map", key="log-opts", attribute="log_opts"),
    Option("init", "flag"),
    Option("init-path", "text"),
    Option("cgroup-parent", "text"),
    Option("default-shm-size", "text"),
    Option("default-ulimit", "map", key="default-ulimits", attribute="default_ulimits"),
    Option("seccomp-profile", "text"),
    Option("no-new-privileges", "flag"),
    Option("live-restore", "flag"),
    Option("icc", "flag"),
    Option("ip-masq", "flag"),
    Option("ip-forward", "flag"),
    Option("ip-forward-no-drop", "flag"),
    Option("iptables", "flag"),
    Option("ip6tables", "flag"),
    Option("firewall-backend", "text"),
    Option("bridge-accept-fwmark", "text"),
    Option("allow-direct-routing", "flag"),
    Option("publish-host-policy", "flag"),  # ours
    Option("default-gateway", "text"),
    Option(
        "default-address-pool",
        "pools",
        key="default-address-pools",
        attribute="default_address_pools",
    ),
    Option("host-gateway-ip", "list", key="host-gateway-ips", attribute="host_gateway_ips"),
    Option("default-cgroupns-mode", "text"),
    Option("default-ipc-mode", "text"),
    Option("default-stop-timeout", "number"),
    Option("shutdown-timeout", "number"),
    Option("experimental", "flag"),
    Option("feature", "map", key="features", attribute="features"),
    Option("log-format", "text"),
    Option("raw-logs", "flag"),
    Option("metrics-addr", "text"),
    Option("oom-score-adjust", "number"),
    Option(
        "authorization-plugin",
        "list",
        key="authorization-plugins",
        attribute="authorization_plugins",
    ),
    Option("cdi-spec-dir", "list", key="cdi-spec-dirs", attribute="cdi_spec_dirs"),
    Option("exec-opt", "list", key="exec-opts", attribute="exec_opts"),
    Option("min-api-version", "text"),
    Option("selinux-enabled", "flag"),
    Option("userland-proxy", "flag"),
    Option("userns-remap", "text"),
    Option("cpu-rt-period", "number"),
    Option("cpu-rt-runtime", "number"),
    Option(
        "default-network-opt",
        "map",
        key="default-network-opts",
        attribute="default_network_opts",
    ),
    Option("max-download-attempts", "number"),
    Option("storage-opt", "list", key="storage-opts", attribute="storage_opts"),
)
# What a running daemon takes over on SIGHUP.
RELOADABLE = frozenset(
    {
        "authorization_plugins",
        "debug",
        "default_cgroupns_mode",
        "default_ipc_mode",
        "default_runtime",
        "default_shm_size",
        "default_stop_timeout",
        "features",
        "live_restore",
        "shutdown_timeout",
        "insecure_registries",
        "labels",
        "log_level",
        "max_concurrent_downloads",
        "max_concurrent_uploads",
        "max_download_attempts",
        "registry_mirrors",
        "runtimes",
    }
)
# dockerd's other options: refused by their names until they are there.
_NOT_YET = """
allow-nondistributable-artifacts builder
containerd-plugins-namespace cri-containerd network-control-plane-mtu
node-generic-resource node-generic-resources nri-opts rootless
swarm-default-advertise-addr userland-proxy-path
"""
NOT_YET = frozenset(_NOT_YET.split())
_NOT_THERE = "is not there yet"
_OF_SWARM = "is not there yet: it is for swarm mode, which is not there yet"
_WHY = {
    "allow-nondistributable-artifacts": "was taken out of Docker: all layers are pushed alike",
    "cri-containerd": "is not there: containerd serves no CRI",
    "builder": "is not there: images are not built yet",
    "containerd-plugins-namespace": "is not there yet: there are no managed plugins",
    "network-control-plane-mtu": _OF_SWARM,
    "node-generic-resource": _OF_SWARM,
    "node-generic-resources": _OF_SWARM,
    "nri-opts": "is not there: containerd serves no NRI",
    "swarm-default-advertise-addr": _OF_SWARM,
    "rootless": "is not there yet: the daemon needs root",
    "userland-proxy-path": "is not there: the proxy of published ports is Barque's own",
}


def refusal(name: str) -> str:
    """Why an option of dockerd is not taken, to be read behind its name."""
    return _WHY.get(name, _NOT_THERE)


FLAG_ONLY = (
    Option("http-proxy", "text"),
    Option("https-proxy", "text"),
    Option("no-proxy", "text"),
    Option("config-file", "text"),
    Option("validate", "flag"),
    Option("on-demand", "flag"),
    Option("idle-timeout", "number"),
)
