"""A server's process: how it starts and ends, what it costs."""

import contextlib
import os
import signal
import socket
import subprocess
import time

from . import dns
from .paths import Trouble
from .world import FIRST_HOST

SERVER_CPU = 0
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """`command` runs in `folder`, stays in the foreground and answers at `port`."""

    def __init__(self, name, folder, port, command=None):
        self.name, self.folder, self.port, self.command = name, folder, port, command
        self.echo = name == "echo"
        self.process = None

    def spawn(self, cpus={SERVER_CPU}):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:  # or two servers would share its queries
                raise Trouble(f"port {self.port} is taken: is another bench running?") from error
        self.started = time.monotonic()
        with open(self.folder / "log", "w") as log:
            self.process = subprocess.Popen(
                self.command.split(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))

    def wait_until_it_answers(self, name=FIRST_HOST, limit=120):
        """Seconds since the start."""
        while time.monotonic() < self.started + limit:
            if self.process.poll() is not None:
                raise Trouble(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            answer = dns.ask(self.port, name, timeout=0.01)
            if answer and (self.echo or answer.addresses):
                return time.monotonic() - self.started
            time.sleep(0.001)
        raise Trouble(f"{self.name} does not answer: {self.last_words()}")

    def last_words(self):
        return (self.folder / "log").read_text()[-1000:].strip() or "its log is empty"

    def pin_worker(self, others):
        """Has meridian's one UDP thread stay on the server's CPU, and all others go where they may; gives that thread."""
        threads = threads_of(self.process.pid)
        workers = [thread for thread, name in threads.items() if name.startswith("udp-")]
        if len(workers) != 1:
            raise Trouble(f"{self.name} has {len(workers)} UDP threads, and one is to be pinned")
        for thread in threads:
            with contextlib.suppress(ProcessLookupError):  # those that compile come and go
                os.sched_setaffinity(thread, {SERVER_CPU} if thread in workers else others)
        return workers[0]

    def pids(self):
        """The process and its descendants."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := stat_of(entry)):
                children.setdefault(int(stat[1]), []).append(int(entry))
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            waiting += children.get(pid, [])
        return found

    def cpu(self):
        """Seconds in user space and in the kernel, of all threads, children and those that ended."""
        user = kernel = 0
        for stat in filter(None, map(stat_of, self.pids())):
            user += int(stat[11]) + int(stat[13])
            kernel += int(stat[12]) + int(stat[14])
        return user / TICKS, kernel / TICKS

    def memory(self):
        """MB: resident, shared pages counted in part; written by itself; the most that was ever resident."""
        kinds = {"Pss": 0, "Private_Dirty": 0, "VmHWM": 0}
        for pid in self.pids():
            for file in ("smaps_rollup", "status"):
                try:
                    lines = open(f"/proc/{pid}/{file}").read().splitlines()
                except OSError:
                    continue
                for line in lines:
                    key, _, value = line.partition(":")
                    if key in kinds:
                        kinds[key] += int(value.split()[0])
        return {"resident": kinds["Pss"] / 1024, "private": kinds["Private_Dirty"] / 1024, "peak": kinds["VmHWM"] / 1024}

    def stop(self):
        if not self.process:
            return
        pids = self.pids() if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in pids[1:]:  # children that outlive their parent
            end = time.monotonic() + 5
            while stat_of(pid) and time.monotonic() < end:
                time.sleep(0.05)
            if stat_of(pid):
                os.kill(pid, signal.SIGKILL)
        self.process = None


def threads_of(pid):
    """Names by thread."""
    names = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/comm") as file:
            names[int(thread)] = file.read().strip()
    return names


def stat_of(pid):
    """The fields of /proc/PID/stat from the state on; None: no such process."""
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError:
        return None
