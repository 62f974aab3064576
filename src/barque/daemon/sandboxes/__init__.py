"""Sandboxes: what each running container has of the network."""
