"""containerd's messages, as protobuf modules generated from the `.proto` files beside them.

Package, service, method and field names and numbers are containerd's own (its `api/` directory);
the text is ours. `tools/protos.sh` makes the modules again. One file a package: few modules load.
"""
