"""What a refusal of the runtime means: an exit code, and a kind of error."""

from __future__ import annotations

from barque import errors

EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE, EXIT_FAILED = 127, 126, 128
CREATE_FAILED = "failed to create task for container: "


def exit_code_of(error: str) -> int:
    """What Docker says a container exits with that could not be started."""
    text = error.lower()
    if any(
        words in text
        for words in ("executable file not found", "no such file or directory", "not a directory")
    ):
        return EXIT_NOT_FOUND
    if "permission denied" in text or "is a directory" in text:
        return EXIT_NOT_EXECUTABLE
    return EXIT_FAILED


def start_error(error: errors.BarqueError, prefix: str = CREATE_FAILED) -> errors.BarqueError:
    """A runtime's refusal as the kind Docker answers with: a bad command is the request's fault."""
    text = f"{prefix}{error}"
    if exit_code_of(text) == EXIT_FAILED:
        return errors.BarqueError(text)
    if "not a directory" in text.lower():
        text += (
            ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the "
            "specified host path exists and is the expected type"
        )
    return errors.InvalidArgument(text)
