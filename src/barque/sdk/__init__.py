"""The client for programs: what is not needed by the command line."""
