"""crypt(3): one-way hashes of passwords, by the system's libcrypt."""

from __future__ import annotations

import ctypes

_DATA_BYTES = 131_232  # struct crypt_data at its largest (glibc; libxcrypt needs 32768)


class Crypt:
    """Raises OSError when the system has no libcrypt."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libcrypt.so.1")
        self._crypt = library.crypt_r
        self._crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        self._crypt.restype = ctypes.c_char_p

    def hashed(self, password: bytes, setting: bytes) -> bytes:
        """The hash of `password` as `setting` (a hash, or the beginning of one) says.

        b"" where the system does not know the kind of hash. Thread-safe, slow by design.
        """
        data = ctypes.create_string_buffer(_DATA_BYTES)
        found = self._crypt(password, setting, data)
        return b"" if found is None or found.startswith(b"*") else bytes(found)
