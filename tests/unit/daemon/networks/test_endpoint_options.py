"""What may be said of a container's place in a network."""

from __future__ import annotations

import pytest

from barque import errors
from barque.daemon.networks.endpoint_options import (
    IFNAME,
    MAC,
    SYSCTLS,
    EndpointOptions,
    parse_endpoint_options,
    parse_link_local,
    parse_sysctl,
)


def test_options_of_an_endpoint() -> None:
    given = {
        SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2",
        IFNAME: "lan0",
        MAC: "02:00:00:00:00:09",
    }
    assert parse_endpoint_options(given, "n", remote=False) == EndpointOptions(
        ("net.ipv4.conf.IFNAME.log_martians=1", "net.ipv6.conf.IFNAME.accept_ra=2"),
        "lan0",
        "02:00:00:00:00:09",
    )


@pytest.mark.parametrize(
    "text",
    [
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.forwarding=1",
        "net.core.conf.IFNAME.x=1",
        "kernel.ipv4.conf.IFNAME.x=1",
        "net.ipv4.conf.IFNAME.rp_filter",
        "net.ipv4.conf.IFNAME.rp_filter=",
        "net.ipv4.conf.IFNAME.rp_filter=1\n2",
        "net.ipv4...IFNAME.x=1",
        "net.ipv4.conf/../..IFNAME.x=1",
        "net.ipv4.conf.IFNAME./proc/x=1",
    ],
)
def test_a_setting_that_is_not_of_one_interface_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="sysctl"):
        parse_sysctl(text)


def test_other_options_are_a_plugins() -> None:
    assert parse_endpoint_options({"colour": "red"}, "n", remote=True) == EndpointOptions()
    with pytest.raises(errors.Unsupported, match=r"driver option colour .* in network n"):
        parse_endpoint_options({"colour": "red"}, "n", remote=False)


@pytest.mark.parametrize("name", ["lo", "a/b", "x" * 16, ".."])
def test_a_name_that_no_interface_can_have_is_refused(name: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        parse_endpoint_options({IFNAME: name}, "n", remote=False)


def test_link_local_addresses() -> None:
    assert parse_link_local(["169.254.1.1", "FE80::9", "fe80::9"]) == ("169.254.1.1", "fe80::9")


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "nonsense", "224.0.0.1", "169.254.1.1/16", ""])
def test_a_link_local_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid link-local IP address"):
        parse_link_local([text])
