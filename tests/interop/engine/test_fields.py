"""The documents of the API have the published fields, and no others, in each version asked for."""

import json
from collections.abc import Iterator

import pytest

from barque.daemon.containers.documents import Config, HostConfig, document
from tests.support.barque import Stack
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root]

# Published fields: those that are always there, and after the bar those that may be.
INSPECT = (
    "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name "
    "RestartCount Driver Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig "
    "GraphDriver Mounts Config NetworkSettings | SizeRw SizeRootFs ImageManifestDescriptor Storage"
)
STATE = (
    "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt "
    "| Health"
)
SUMMARY = (
    "Id Names Image ImageID Command Created Ports Labels State Status HostConfig NetworkSettings "
    "Mounts | SizeRw SizeRootFs ImageManifestDescriptor Health"
)
RESOURCES = (
    "CpuShares Memory CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps "
    "BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota "
    "CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules "
    "DeviceRequests MemoryReservation MemorySwap MemorySwappiness NanoCpus OomKillDisable "
    "PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth"
)
HOST = (
    f"{RESOURCES} Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy "
    "AutoRemove VolumeDriver VolumesFrom ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions "
    "DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links OomScoreAdj PidMode Privileged "
    "PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime Isolation "
    "MaskedPaths ReadonlyPaths | Mounts Annotations StorageOpt Tmpfs Sysctls Init"
)
CONFIG = (
    "Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env "
    "Cmd Image Volumes WorkingDir Entrypoint Labels | ExposedPorts Healthcheck ArgsEscaped "
    "NetworkDisabled MacAddress StopSignal StopTimeout Shell OnBuild"
)
INFO = (
    "ID Containers ContainersRunning ContainersPaused ContainersStopped Images Driver DriverStatus "
    "DockerRootDir Plugins MemoryLimit SwapLimit CpuCfsPeriod CpuCfsQuota CPUShares CPUSet "
    "PidsLimit OomKillDisable IPv4Forwarding Debug NFd NGoroutines SystemTime LoggingDriver "
    "CgroupDriver CgroupVersion NEventsListener KernelVersion OperatingSystem OSVersion OSType "
    "Architecture NCPU MemTotal IndexServerAddress RegistryConfig GenericResources HttpProxy "
    "HttpsProxy NoProxy Name Labels ExperimentalBuild ServerVersion Runtimes DefaultRuntime Swarm "
    "LiveRestoreEnabled Isolation InitBinary ContainerdCommit RuncCommit InitCommit "
    "SecurityOptions Warnings CDISpecDirs Containerd DefaultAddressPools DiscoveredDevices "
    "| ProductLicense FirewallBackend NRI BridgeNfIptables BridgeNfIp6tables"
)
VERSION = (
    "Platform Components Version ApiVersion MinAPIVersion GitCommit GoVersion Os Arch "
    "KernelVersion BuildTime | Experimental"
)
VOLUME = "Name Driver Mountpoint CreatedAt Labels Scope Options | Status UsageData ClusterVolume"
IMAGE = (
    "Id ParentId RepoTags RepoDigests Created Size SharedSize Labels Containers "
    "| VirtualSize Manifests Descriptor"
)
NETWORK = (
    "Name Id Created Scope Driver EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom "
    "ConfigOnly Containers Options Labels | EnableIPv4 Peers Services Status"
)


@pytest.fixture(scope="module")
def made(barque: Stack) -> Iterator[Stack]:
    options = ("--health-cmd", "true", "--health-interval", "1h", "-v", "kept:/v", "-p", "80")
    barque.docker("run", "-d", "--name", "made", *options, "busybox", "sleep", "1000")
    yield barque
    barque.docker("rm", "-f", "made")
    barque.docker("volume", "rm", "kept")


def check(found: dict[str, object], published: str) -> None:
    always, _, sometimes = published.partition("|")
    missing = set(always.split()) - found.keys()
    unknown = found.keys() - set(always.split()) - set(sometimes.split())
    assert (missing, unknown) == (set(), set())


@pytest.mark.parametrize("version", ["", "/v1.24", "/v1.40", "/v1.44", "/v1.51", "/v1.55"])
def test_documents(made: Stack, version: str) -> None:
    inspected = ask(made.socket, "GET", f"{version}/containers/made/json?size=1").json()
    check(inspected, INSPECT)
    check(inspected["State"], STATE)
    check(inspected["HostConfig"], HOST)
    check(inspected["Config"], CONFIG)
    for summary in ask(made.socket, "GET", f"{version}/containers/json?all=1").json():
        check(summary, SUMMARY)
    check(ask(made.socket, "GET", f"{version}/info").json(), INFO)
    check(ask(made.socket, "GET", f"{version}/version").json(), VERSION)
    for volume in ask(made.socket, "GET", f"{version}/volumes").json()["Volumes"]:
        check(volume, VOLUME)
    for image in ask(made.socket, "GET", f"{version}/images/json").json():
        check(image, IMAGE)
    for network in ask(made.socket, "GET", f"{version}/networks").json():
        check(network, NETWORK)


def test_types(made: Stack) -> None:
    """What clients in typed languages decode: a wrong kind breaks them, null mostly does not."""
    found = ask(made.socket, "GET", "/containers/made/json").json()
    for name, kind in (("Args", list), ("RestartCount", int), ("Mounts", list), ("State", dict)):
        assert isinstance(found[name], kind), name
    plain, host = document(Config()), document(HostConfig())
    for name, default in {**plain, **host}.items():
        value = {**found["Config"], **found["HostConfig"]}.get(name)
        if value is not None and default is not None:
            assert isinstance(value, type(default)), name


def test_every_version_in_range_is_served(barque: Stack) -> None:
    for minor in range(24, 56):
        assert ask(barque.socket, "GET", f"/v1.{minor}/_ping").body == b"OK"
    assert ask(barque.socket, "GET", "/v1.23/_ping").status == 400
    refused = ask(barque.socket, "GET", "/v1.56/_ping")
    assert refused.status == 400
    assert "Maximum supported API version is 1.55" in json.loads(refused.body)["message"]
