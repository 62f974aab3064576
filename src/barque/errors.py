"""Kinds of failure. Each edge maps a kind once: to an HTTP status, a gRPC code or an exit code.

    BarqueError
    |- InvalidArgument        what was asked is malformed or out of range
    |- Unauthorized           who asks is not known
    |- Forbidden              who asks may not
    |- NotFound               the named object does not exist
    |- Conflict               the object's state does not allow it
    |   `- AlreadyExists      the name or id is taken
    |- NotModified            the object is already so
    |- Unsupported            known, but not there yet or not on this kernel
    |- Unavailable            a peer does not answer; trying again may help
    |- ResourceExhausted      a bound was reached: disk, memory, size, count
    |- DataLoss               stored or received bytes are not what they must be
    `- Timeout                the deadline passed first

Text: lower case, no full stop, the object first; where Docker's wording is API, Docker's wording.
Imports nothing: the hot programs load this module.
"""


class BarqueError(Exception):
    """What failed, on which object, and what to do, in one line."""


class InvalidArgument(BarqueError): ...


class Unauthorized(BarqueError): ...


class Forbidden(BarqueError): ...


class NotFound(BarqueError): ...


class Conflict(BarqueError): ...


class AlreadyExists(Conflict): ...


class NotModified(BarqueError): ...


class Unsupported(BarqueError): ...


class Unavailable(BarqueError): ...


class ResourceExhausted(BarqueError): ...


class DataLoss(BarqueError): ...


class Timeout(BarqueError): ...
