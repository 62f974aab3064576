"""`barque checkpoint`: what has no shorter name of the commands for checkpoints."""
