"""The rules of published ports and separate networks: nftables, or iptables where only that is."""
