"""Processes forked from one that has imported the package, so that tests of several processes wait for no import.

A process begins as ``python -m MODULE`` or ``python -c CODE`` does: with arguments, an environment and streams of its own,
and before any operation of torch. It ends as every interpreter does, and its exit status is that of ``subprocess``.

python -m tests.processes SOCKET
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRELOADED = ("torch", "torch.distributed", "pyro", "drl_density.density", "drl_density.cli")
SHARDING = ("torch.distributed.fsdp", "torch.distributed.tensor", "torch._dynamo", "torch._subclasses.fake_tensor")
"""What processes with sharded weights import besides."""
MOST_BYTES = 2**17


class Process:
    """A process that runs; its status arrives at a socket when it ends."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self.pid, self.returncode = int(status.recv(64)), None

    def poll(self, timeout: float = 0.0) -> int | None:
        """The exit status, or None while the process runs."""
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self._status.recv(64)))
            self._status.close()
        return self.returncode

    def wait(self, timeout: float = 240.0) -> int:
        """The exit status at the end; a process that does not end is killed."""
        if self.poll(timeout) is None:
            os.kill(self.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode


@functools.cache
def _origin() -> socket.socket:
    """Where the process from which all others are forked takes its jobs; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-m", "tests.processes", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
    atexit.register(_end, process, ours)
    return ours


def _end(process: subprocess.Popen, jobs: socket.socket) -> None:
    jobs.close()
    process.wait(60)


def start(program, *arguments, stdin=0, stdout=1, stderr=2, imports=(), strict=False, **environment):
    """Start a process.

    Args:
        program: the name of a module, or lines of code.
        arguments: its command line.
        stdin, stdout, stderr: files, or their descriptors.
        imports: modules to have been imported before the process begins.
        strict: whether warnings of the user's kind are errors.
        environment: changes of the environment.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    job = {"program": program, "arguments": [*map(str, arguments)], "imports": imports, "strict": strict}
    job["environment"] = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    streams = [stream if isinstance(stream, int) else stream.fileno() for stream in (stdin, stdout, stderr)]
    with theirs:
        socket.send_fds(_origin(), [json.dumps(job).encode()], [theirs.fileno(), *streams])
    return Process(ours)


def run(program, *arguments, stdout=None, **options):
    """Start a process and wait for its end; what it wrote to streams that were not given is in the result."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as words:
        process = start(program, *arguments, stdout=stdout or out, stderr=words, **options)
        code = process.wait()
        for file in (out, words):
            file.seek(0)
        return subprocess.CompletedProcess([program, *arguments], code, out.read(), words.read())


def _serve(jobs: socket.socket):
    """Forks a process for every job; returns in the forked ones, with the job. At the end of all jobs this process ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for the status of those that wait
    while True:
        message, descriptors, _, _ = socket.recv_fds(jobs, MOST_BYTES, 4)
        if not message:
            sys.exit()
        job = json.loads(message)
        for name in job["imports"]:
            importlib.import_module(name)
        if os.fork() == 0:
            jobs.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _begin(job, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _begin(job, status, *streams):
    """Fork the process itself and, in this one, wait for it."""
    pid = os.fork()
    if pid != 0:
        for descriptor in streams:
            os.close(descriptor)
        with socket.socket(fileno=status) as status, contextlib.suppress(BrokenPipeError):
            status.send(str(pid).encode())
            status.send(str(os.waitpid(pid, 0)[1]).encode())
        os._exit(0)
    os.close(status)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return job


def main():
    """Import what all processes need and wait for jobs."""
    for name in PRELOADED:
        importlib.import_module(name)
    job = _serve(socket.socket(fileno=int(sys.argv[1])))
    os.environ.clear()
    os.environ.update(job["environment"])
    if job["strict"]:
        warnings.simplefilter("error", UserWarning)
    program = job["program"]
    sys.argv = [program if "\n" not in program else "-c", *job["arguments"]]
    if "\n" in program:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
