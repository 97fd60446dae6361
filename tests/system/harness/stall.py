"""A disk that stands still: what the daemon writes to a file waits while a test wants it to."""
import contextlib
import os
import subprocess


class Disk:
    """Of the files that end in suffix, for a daemon that has .environment. directory: for what it needs itself."""

    def __init__(self, directory, suffix):
        library = f"{directory}/stall.so"
        source = os.path.join(os.path.dirname(__file__), "stall.c")
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library,
                        source, "-ldl"], check=True)
        self._gate = f"{directory}/stalled"
        # A sanitizer insists on being the first library otherwise.
        sanitizer = os.environ.get("ASAN_OPTIONS", "detect_stack_use_after_return=1") + ":verify_asan_link_order=0"
        self.environment = {"LD_PRELOAD": library, "STALL_SUFFIX": suffix, "STALL_WHILE": self._gate,
                            "ASAN_OPTIONS": sanitizer}

    def stall(self):
        with open(self._gate, "w"):
            pass

    def go_on(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._gate)

    @contextlib.contextmanager
    def stalled(self):
        self.stall()
        try:
            yield
        finally:
            self.go_on()
