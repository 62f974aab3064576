"""HTTP/1.1 on the API's sockets, from bytes to a request and back; connections taken over."""
