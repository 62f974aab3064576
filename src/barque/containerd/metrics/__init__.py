"""What this server counts, as Prometheus text on an address that its configuration names."""
