"""The proxy of published ports: what rules of the firewall cannot redirect."""
