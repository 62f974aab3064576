"""`barque system`: what has no shorter name of the commands for the engine as a whole."""
