"""Archives of images: docker-archive and OCI layout, as tar streams in and out."""
