"""Copying between this machine and a container: Docker's rules for names, both directions."""
