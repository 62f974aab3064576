"""Copying into and out of containers: `docker cp`, and the archive endpoints."""
