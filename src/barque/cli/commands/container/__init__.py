"""`barque container`: what has no shorter name of the commands for containers."""
