"""`barque image`: what has no shorter name of the commands for images."""
