"""`barque context`: what has no shorter name of the commands for contexts."""
