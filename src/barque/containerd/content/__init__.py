"""Blobs by digest: immutable, verified, durable before they have a name."""
