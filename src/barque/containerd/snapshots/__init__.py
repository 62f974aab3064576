"""File systems in layers: `store` keeps keys and chains, a snapshotter keeps directories."""
