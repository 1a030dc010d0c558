"""Two gloo processes of a module of the tests."""

import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_pair(module, *arguments, stderr=None):
    """Start the two processes of ``python -m MODULE``, with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, "-W", "error::UserWarning", "-m", module, *map(str, arguments)]
    return [
        subprocess.Popen(command, cwd=ROOT, env={**environment, "RANK": rank}, stderr=stderr, text=True)
        for rank in "01"
    ]
