"""The name server of containers on user-defined networks: 127.0.0.11."""
