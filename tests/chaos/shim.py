"""A disk that fails or is slow, and a clock that stands wrong, for the daemon or for PostgreSQL: see shim.c."""
import contextlib
import mmap
import os
import struct
import subprocess

_LAYOUT = struct.Struct("qiiiiq256s")
_SOURCE = os.path.join(os.path.dirname(__file__), "shim.c")


class Shim:
    """One page for one program and all that it starts; .environment is what the program needs. The directory must be
    readable for it."""

    def __init__(self, directory, name="shim"):
        library = os.path.join(directory, f"{name}.so")
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
                        library, _SOURCE, "-ldl"], check=True)
        path = os.path.join(directory, f"{name}.page")
        with open(path, "wb") as file:
            file.write(bytes(_LAYOUT.size))
        os.chmod(path, 0o666)  # PostgreSQL is another user
        with open(path, "r+b") as file:
            self._page = mmap.mmap(file.fileno(), _LAYOUT.size)
        # A sanitizer insists on being the first library otherwise.
        sanitizer = os.environ.get("ASAN_OPTIONS", "detect_stack_use_after_return=1") + ":verify_asan_link_order=0"
        self.environment = {"LD_PRELOAD": library, "CHAOS_PAGE": path, "ASAN_OPTIONS": sanitizer}

    def _put(self, form, offset, *values):
        struct.pack_into(form, self._page, offset, *values)

    def set_clock(self, seconds):
        """So far ahead of the true time, or behind it."""
        self._put("q", 0, int(seconds))

    def fail(self, *paths, write=0, sync=0, delay=0, torn=False):
        """From now on, for files whose path has one of the paths in it: the errno of writes, of fsync; the delay of
        each in seconds; torn: half of what cannot be written is written."""
        parts = b"".join(path.encode() + b"\0" for path in paths)
        assert len(parts) < 256
        self._put("256s", 32, parts)
        self._put("iiii", 8, write, sync, int(delay * 1e6), torn)

    def heal(self):
        self._put("iiii", 8, 0, 0, 0, 0)

    @property
    def failed(self):
        """How many calls have failed so far."""
        return struct.unpack_from("q", self._page, 24)[0]

    @contextlib.contextmanager
    def failing(self, *paths, **how):
        self.fail(*paths, **how)
        try:
            yield
        finally:
            self.heal()
