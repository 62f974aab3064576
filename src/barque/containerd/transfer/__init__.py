"""Images from and to registries, archives and names of the store, done whole by the server."""
