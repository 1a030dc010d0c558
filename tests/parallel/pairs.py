"""Two gloo processes of a module of the tests."""

import socket

from tests.processes import SHARDING, start


def start_pair(program, *arguments, stderr=2, is_sharded=False):
    """Start the two processes of ``python -m MODULE``, or of lines of code."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    imports = SHARDING if is_sharded else ()
    return [
        start(program, *arguments, stderr=stderr, imports=imports, strict=True, RANK=rank, **environment)
        for rank in "01"
    ]
