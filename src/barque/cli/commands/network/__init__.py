"""`barque network`: what has no shorter name of the commands for networks."""
