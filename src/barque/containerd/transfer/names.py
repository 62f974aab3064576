"""Under which names an image is put into the store, and found there.

Source: containerd, core/transfer/image: `name` is that of the image that is transferred; extra
references name it too, or, as prefixes, the images of an archive by what its index says of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from barque.containerd.grpc import Call
from barque.containerd.images import Images
from barque.containerd.proto import images_pb2
from barque.containerd.proto.transfer_types_pb2 import ImageReference, ImageStore
from barque.containerd.transfer.progress import message_of
from barque.errors import AlreadyExists, NotFound, Unsupported
from barque.oci.image import Descriptor

FULL_NAME = "io.containerd.image.name"
TAG = "org.opencontainers.image.ref.name"


def names_of(store: ImageStore, target: Descriptor) -> list[str]:
    """The names of the image that a transfer is about."""
    found = [store.name] if store.name else []
    for reference in store.extra_references:
        if not reference.is_prefix:
            digest = f"@{target.digest}" if reference.add_digest else ""
            found.append(reference.name + digest)
    return found


def names_in_archive(store: ImageStore, target: Descriptor) -> list[str]:
    """The names of one of the images of an archive, by its annotations."""
    found = []
    for reference in store.extra_references:
        if reference.is_prefix:
            name = annotated_name(target.annotations, reference)
            if name:
                found.append(name)
            if reference.add_digest and not (name and reference.skip_named_digest):
                found.append(f"{reference.name}@{target.digest}")
    return found


def annotated_name(annotations: Mapping[str, str], reference: ImageReference) -> str:
    """The full name that the annotations give, if the prefix lets it; else ""."""
    prefix = reference.name
    full, tag = annotations.get(FULL_NAME, ""), annotations.get(TAG, "")
    if full:
        return full if reference.allow_overwrite or _has_prefix(full, prefix) else ""
    if not tag:
        return ""
    if ":" not in tag and "/" not in tag:
        return f"{prefix}:{tag}"
    return tag if reference.allow_overwrite or _has_prefix(tag, prefix) else ""


def _has_prefix(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and (name[len(prefix) :][:1] in (":", "@", "", "/"))


async def store_image(
    images: Images, call: Call, name: str, target: Descriptor, labels: Mapping[str, str]
) -> None:
    """Make `name` lead to `target`, whatever it led to before."""
    image = images_pb2.Image(name=name, target=message_of(target), labels=labels)
    while True:
        try:
            await images.create(call, images_pb2.CreateImageRequest(image=image))
        except AlreadyExists:
            try:
                await images.update(call, images_pb2.UpdateImageRequest(image=image))
            except NotFound:  # removed in between
                continue
        return


async def looked_up(images: Images, call: Call, store: ImageStore) -> list[images_pb2.Image]:
    """The images that a source of a transfer names. Raises NotFound."""
    names = [store.name] if store.name else []
    for reference in store.extra_references:
        if reference.is_prefix:
            raise Unsupported("prefix lookup on export is not supported")
        names.append(reference.name)
    names += store.export_images
    if not names:
        raise NotFound("no image name found: not found")
    found = []
    for name in names:
        request = images_pb2.GetImageRequest(name=name)
        found.append((await images.get(call, request)).image)
    return found
