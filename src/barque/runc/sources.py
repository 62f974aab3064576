"""Sources of bind mounts that the runtime opens for the container's process, which cannot itself.

config.md, "POSIX-platform Mounts" (`idmap`, `ridmap`, `uidMappings`, `gidMappings`): a mount gets
its ids mapped while it is detached, by who has the privileges of the filesystem's user namespace.
And root of another user namespace may not be able to walk to a source: the host's root can.
"""

from __future__ import annotations

import os

import barque.linux.mount as kernel
from barque.errors import BarqueError, InvalidArgument
from barque.linux.id_mapped import map_ids, new_user_namespace
from barque.runc.birth import id_map
from barque.runc.log import reason
from barque.runc.options import parse_options
from barque.runc.rootfs import describe, open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Mount, Spec
    from barque.runc.options import Options

OWN_SLAVES = ("", "slave", "rslave")  # propagations of the root that receive from the host


def open_all(spec: Spec, bundle: str, joined_user: int) -> dict[int, int]:
    """Detached mounts by the place of their entry in `mounts`; the caller closes them.

    `joined_user` is the user namespace that the container joins, or -1.
    """
    opened: dict[int, int] = {}
    try:
        for index, mount in enumerate(spec.mounts):
            options = parse_options(mount)
            if options.bind and not options.remount:
                try:
                    opened[index] = _open(spec, mount, options, bundle, joined_user)
                except OSError as error:
                    raise InvalidArgument(f"{describe(mount)}: {reason(error)}") from error
                except BarqueError as error:
                    raise type(error)(f"{describe(mount)}: {error}") from error
    except BaseException:
        close_all(opened)
        raise
    return opened


def close_all(opened: dict[int, int]) -> None:
    for fd in opened.values():
        os.close(fd)


def _open(spec: Spec, mount: Mount, options: Options, bundle: str, joined_user: int) -> int:
    detached = open_source(bundle, mount.source, recursive=options.recursive)
    try:
        if options.id_mapped or mount.uid_mappings or mount.gid_mappings:
            _map_ids(spec, mount, options, detached, joined_user)
        if spec.linux.rootfs_propagation in OWN_SLAVES:
            # as it would be had the new mount namespace copied it: it must tell the host nothing
            kernel.mount_setattr(detached, propagation=kernel.MS_SLAVE, recursive=True)
    except BaseException:
        os.close(detached)
        raise
    return detached


def _map_ids(spec: Spec, mount: Mount, options: Options, detached: int, joined_user: int) -> None:
    if mount.uid_mappings or mount.gid_mappings:
        uids, gids = mount.uid_mappings, mount.gid_mappings
        if not (uids and gids):
            raise InvalidArgument("both uidMappings and gidMappings must be specified")
    else:
        uids, gids = spec.linux.uid_mappings, spec.linux.gid_mappings
        if joined_user >= 0:
            _set_map(detached, joined_user, options)
            return
        if not (uids and gids):
            raise InvalidArgument("idmap needs mappings, or a user namespace that has some")
    namespace = new_user_namespace(id_map(uids), id_map(gids))
    try:
        _set_map(detached, namespace, options)
    finally:
        os.close(namespace)


def _set_map(detached: int, namespace: int, options: Options) -> None:
    map_ids(detached, namespace, recursive=options.id_mapped == "ridmap")
