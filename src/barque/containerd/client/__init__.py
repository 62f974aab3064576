"""The Python client of containerd: the only part of this package that the daemon may import."""

from barque.containerd.client.containerd import Containerd

__all__ = ["Containerd"]
