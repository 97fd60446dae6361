"""Debian's node, where it is installed, and the modules that Debian packages for it."""
import os
import subprocess

NODE_ENVIRONMENT = {**os.environ, "NODE_PATH": "/usr/share/nodejs:/usr/lib/nodejs"}


def has_node(*modules):
    """Whether /usr/bin/node runs and finds all these."""
    script = "".join(f"require('{module}');" for module in modules)
    try:
        done = subprocess.run(["/usr/bin/node", "-e", script], capture_output=True, env=NODE_ENVIRONMENT)
        return done.returncode == 0
    except FileNotFoundError:
        return False
