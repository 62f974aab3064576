"""`barque registry serve`: a registry of our own, in the foreground."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options, Row
    from barque.cli.session import Session

USAGE = "[OPTIONS]"
SUMMARY = "Serve a registry of images"
ALIASES: tuple[str, ...] = ()
OPTIONS: tuple[Row, ...] = (
    ("address", "", "string", "Listen here", '"127.0.0.1:5000"'),
    ("anonymous-pull", "", "bool", "Who is not logged in may pull"),
    ("cache-credentials", "", "string", "File with user:password for --cache-of"),
    ("cache-expiry", "", "int", "Seconds that --cache-of keeps what nobody asks for", "for ever"),
    ("cache-of", "", "string", "Serve what this registry has, kept here once it was asked for"),
    ("engine", "", "string", "Serve the images of the containerd at this address"),
    ("engine-namespace", "", "string", "Namespace of --engine", '"moby"'),
    (
        *("engine-push", "", "string"),
        "Take pushes for --engine; what comes is named below this (HOST:PORT)",
    ),
    ("gc-grace", "", "int", "Seconds that unused blobs are kept", "3600"),
    ("gc-interval", "", "int", "Seconds between collections of garbage, 0 for never", "3600"),
    ("htpasswd", "", "string", "File of the users who may (bcrypt)"),
    ("max-connections", "", "int", "Connections at once", "512"),
    ("metrics-address", "", "string", "Serve metrics here"),
    ("no-delete", "", "bool", "Refuse to delete"),
    ("push-users", "", "string", "The only users of --htpasswd who may push and delete, by commas"),
    ("read-only", "", "bool", "Refuse all that changes anything"),
    ("root", "", "string", "Directory of the registry", '"/var/lib/barque/registry"'),
    ("tls-cert", "", "string", "Certificate of the server"),
    ("tls-key", "", "string", "Key of the server"),
    ("token-issuer", "", "string", "Issuer of a token server's tokens"),
    ("token-key", "", "string", "Certificate or public key of a token server"),
    ("token-realm", "", "string", "URL of a token server"),
    ("token-service", "", "string", "What a token server knows this registry as"),
    ("tokens", "", "bool", "Give the users of --htpasswd tokens for a while"),
)
ARGUMENTS = (0, 0)


def run(session: Session, options: Options, arguments: list[str]) -> int:
    from barque.program import command

    argv = command("barque-registry", "serve", *words(options, OPTIONS))
    os.execv(argv[0], argv)


def words(options: Options, rows: tuple[Row, ...]) -> list[str]:
    """The flags that were given, as they were."""
    found = []
    for row in rows:
        if row[0] in options:
            if row[2] == "bool":
                found += [f"--{row[0]}"] if options.flag(row[0]) else []
            else:
                found.append(f"--{row[0]}={options.text(row[0])}")
    return found
