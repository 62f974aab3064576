"""Names that clients choose: namespaces, containers, leases, labels.

Source: containerd, pkg/identifiers and labels. What passes `check_identifier` is safe as a path
component and in an event topic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from barque.containerd.grpc import Call
from barque.errors import Conflict, InvalidArgument

LENGTH_MAX = 76
LABEL_BYTES_MAX = 4096

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*\Z")


def check_identifier(text: str) -> str:
    """`text`, if it is an identifier; raises InvalidArgument otherwise."""
    if not text:
        raise InvalidArgument("identifier must not be empty: invalid argument")
    if len(text) > LENGTH_MAX:
        raise InvalidArgument(
            f'identifier "{text}" greater than maximum length ({LENGTH_MAX} characters):'
            " invalid argument"
        )
    if not _IDENTIFIER.match(text):
        raise InvalidArgument(f"identifier {text!r} must match {_IDENTIFIER.pattern}")
    return text


def namespace_of(call: Call) -> str:
    """The namespace a call works in. Raises Conflict (failed precondition) when it names none."""
    if not call.namespace:
        raise Conflict("namespace is required: failed precondition")
    return check_identifier(call.namespace)


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """`labels` as a dictionary; raises InvalidArgument when one is too long."""
    for key, value in labels.items():
        size = len(key.encode()) + len(value.encode())
        if size > LABEL_BYTES_MAX:
            raise InvalidArgument(
                f"label key and value length ({size} bytes) greater than maximum size"
                f" ({LABEL_BYTES_MAX} bytes), key: {key[:40]}: invalid argument"
            )
    return dict(labels)
