"""`barque volume`: what has no shorter name of the commands for volumes."""
