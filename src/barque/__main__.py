"""Where every Barque program starts: `python -I -S .../barque/__main__.py PROGRAM ARGUMENTS`.

Isolated and without `site`: the import path is exactly the directory that holds this package and
the site-packages of the interpreter's own environment, so nothing from the caller's directory or
environment is loaded, and start-up pays for nothing else.
"""

import gc
import sys

PROGRAMS = {
    "barque": "barque.cli.main",
    "barqued": "barque.daemon.main",
    "barque-containerd": "barque.containerd.main",
    "barque-runc": "barque.runc.command",
    "barque-netns": "barque.network.maker",  # inner: makes namespaces for barqued
    "barque-dns": "barque.network.dns.server",  # inner: names for containers, outlives barqued
    "barque-proxy": "barque.network.proxy.server",  # inner: ports no rule leads, outlives barqued
    "barque-archive": "barque.daemon.archive.main",  # inner: copies into and out of a container
    "barque-stdio": "barque.shim.relay",  # inner: streams below another shim, outlives barqued
    "barque-registry": "barque.registryd.main",  # what `barque registry` runs
    "barque-copyup": "barque.volume.copier",  # inner: copies an image's content into a volume
    "containerd-shim-barque-v2": "barque.shim.main",
}


def import_path(package_file: str, executable: str, version: tuple[int, ...]) -> list[str]:
    """The two directories programs import from: this package's, and the environment's packages."""
    source = package_file.rsplit("/", 2)[0]
    prefix = executable.rsplit("/", 2)[0]
    packages = f"{prefix}/lib/python{version[0]}.{version[1]}/site-packages"
    return [source] if source == packages else [source, packages]


def main(program: str, arguments: list[str]) -> int:
    """Run one of `PROGRAMS`; returns its exit code."""
    for directory in import_path(__file__, sys.executable, sys.version_info[:2]):
        if directory not in sys.path:
            sys.path.append(directory)
    _show_name(program)
    gc.disable()  # a search for garbage in the midst of loading finds none, and costs a tenth of it
    entry = __import__(PROGRAMS[program], fromlist=["main"]).main
    gc.enable()
    code: int = entry(arguments)
    return code


def _show_name(program: str) -> None:
    """Be `program` in ps and top, where all of us would be "python". prctl(2), PR_SET_NAME."""
    try:
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(program.encode())
    except OSError:
        pass  # /proc is not there, or not writable: only the name is missing


def barque() -> int:
    return main("barque", sys.argv[1:])


def barqued() -> int:
    return main("barqued", sys.argv[1:])


def barque_containerd() -> int:
    return main("barque-containerd", sys.argv[1:])


def barque_runc() -> int:
    return main("barque-runc", sys.argv[1:])


def containerd_shim_barque_v2() -> int:
    return main("containerd-shim-barque-v2", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
