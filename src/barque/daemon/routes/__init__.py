"""The Engine API, a resource a module: parse the request, call a service, render its answer."""
