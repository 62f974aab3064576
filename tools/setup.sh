#!/bin/bash
# Install what `make demo` (run), `make check` (dev), `make test` (peers) and `make suites` need: an environment in
# ./.venv with pinned packages, the launchers of the programs, Debian's packages where missing, and the
# kernel of the tests' virtual machine.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=${1:?run, dev, peers or suites}

RUN_PACKAGES="python3 python3-venv busybox-static nftables libseccomp2 iproute2"
PEER_PACKAGES="docker.io docker-compose iperf3 containerd runc crun podman buildah skopeo umoci openssl docker-registry debootstrap
    iptables ufw firewalld uidmap openssh-server zsh fish strace curl apache2-utils procps bash e2fsprogs btrfs-progs xfsprogs mount"
# Go and its libraries as Debian packages: what the suites are built with comes from nowhere else.
SUITE_PACKAGES="bats jq gawk gcc libc6-dev libseccomp-dev golang-go golang-github-containerd-console-dev
    golang-github-cyphar-filepath-securejoin-dev golang-github-opencontainers-specs-dev golang-github-seccomp-libseccomp-golang-dev
    golang-github-sirupsen-logrus-dev golang-github-urfave-cli-dev golang-golang-x-sys-dev
    golang-github-containerd-containerd-dev lsof"
MACHINE_PACKAGES="qemu-system-x86 kmod criu apparmor secilc systemd dbus dmsetup"

say() { printf '%s\n' "$*" >&2; }

packages() {
    local missing=()
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        say "please install these packages: ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    # Nothing that a package brings may be started here: the tests start their own peers.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
        made=yes
    fi
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        [ -n "$made" ] && rm -f $policy
        exit 1
    fi
    rm -f "$log"
    [ -n "$made" ] && rm -f $policy
    return 0
}

# The first Python that is new enough, by its true path: a shim in front would cost every start. The distribution's own
# comes first: docs/adr/project-interpreter.md.
python() {
    local name path
    for name in /usr/bin/python3 python3.11 python3.12 python3.13 python3.14 python3; do
        path=$("$name" -c 'import os, sys, venv, ensurepip
if sys.version_info >= (3, 11): print(os.path.realpath(sys.executable))' 2>/dev/null) || continue
        [ -n "$path" ] && echo "$path" && return
    done
    say "no Python 3.11 or newer with venv is here"
    exit 1
}

environment() {
    [ -x .venv/bin/pip ] && return
    local interpreter
    interpreter=$(python)
    "$interpreter" -m venv .venv
}

install() {
    .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "requirements/$1.txt"
    .venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
    .venv/bin/python -m compileall -q src
    .venv/bin/python tools/launchers.py .venv/bin
}

case $stage in
run)
    packages $RUN_PACKAGES
    environment
    install runtime
    ;;
dev)
    packages $RUN_PACKAGES
    environment
    install dev
    touch .venv/run.stamp
    ;;
peers)
    packages $PEER_PACKAGES $MACHINE_PACKAGES
    tools/kernel.sh
    ;;
suites)
    packages $SUITE_PACKAGES
    ;;
*)
    say "usage: tools/setup.sh run|dev|peers|suites"
    exit 2
    ;;
esac
touch ".venv/$stage.stamp"
