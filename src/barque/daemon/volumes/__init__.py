"""Volumes: their records, their drivers, and copies of them."""
