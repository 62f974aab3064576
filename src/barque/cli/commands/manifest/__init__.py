"""`barque manifest`: what has no shorter name of the commands for manifest lists."""
