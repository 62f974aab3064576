#!/bin/sh
# Makes the protobuf modules and their type stubs of src/barque/containerd/proto again.
# Usage: tools/protos.sh [python]   (needs grpcio-tools and mypy-protobuf, development dependencies)
set -eu
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
directory=src/barque/containerd/proto
rm -f "$directory"/*_pb2.py "$directory"/*_pb2.pyi
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I src --python_out=src --mypy_out=src "$directory"/*.proto
