"""The OCI's documents and formats as checked values: images, runtime configs, digests, layers' tar.

Nothing here opens a connection or knows a container; standard library only.
"""
