"""The Python client of the Engine API; `barque.client.client.Client` is where to start."""
