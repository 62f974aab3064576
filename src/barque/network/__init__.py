"""Sandboxes, endpoints, IPAM, bridges, port maps."""
