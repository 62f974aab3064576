"""`barque registry`: what has no shorter name of the commands for a registry."""
