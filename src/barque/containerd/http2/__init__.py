"""HTTP/2 (RFC 9113) as far as gRPC needs it: streams of messages on one connection, both ends."""
