"""Pulling an image, for `pull` and for `run` of an image that is not here."""

from __future__ import annotations

from barque.cli import progress
from barque.cli.references import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.session import Session


def pull(
    session: Session, image: str, *, platform: str = "", fd: int, all_tags: bool = False
) -> None:
    """Pull `image` and show the progress on `fd` (-1: nowhere). Raises BarqueError."""
    reference = Reference(image)
    tag = reference.digest or reference.tag or ("" if all_tags else "latest")
    auth = ""
    if session.settings:
        from barque.cli.logins import registry_auth

        auth = registry_auth(session.settings, reference.registry)
    documents = session.client.images.pull(
        reference.familiar_name, tag, platform=platform, auth=auth
    )
    progress.show(documents, fd)
