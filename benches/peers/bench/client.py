"""One measurement: blast asks a server for a while, and the kernel tells what that cost whom."""

import dataclasses
import json
import os
import subprocess
import time

from .paths import BIN, WORLD, Trouble
from .sites import BLOCK_CLIENTS

CLIENT_CPU = os.cpu_count() - 1
UNDER_WAY = 128         # queries, over all sockets, while a server is asked as fast as it answers
UNDER_WAY_PACED = 4096  # at a given rate: enough to go on asking while a server stalls
CALM = 0.12             # of a CPU: what others may use when a measurement begins
PATIENCE = 5            # seconds to wait for that


@dataclasses.dataclass(frozen=True)
class Work:
    about: str
    queries: str
    flags: tuple = ()


WORKS = {
    "geo": Work("www A, a random client subnet (ECS /24) in each query", "www", ("-e",)),
    "geosrc": Work("www A by source address, from four blocks in turn", "www", ("-B", ",".join(BLOCK_CLIENTS))),
    "static": Work("1,000 names, A and AAAA", "static"),
    "nxdomain": Work("a new random name in each query", "nxdomain", ("-x",)),
    "mixed": Work("70% geo, 20% static, 10% NXDOMAIN, all with a client subnet", "mixed", ("-e",)),
    "tcp": Work("static over 10 TCP connections, 8 queries under way on each", "static", ("-T", "-S", "10", "-w", "8")),
    "tcp1": Work("static over 10 TCP connections, one query after the other on each", "static", ("-T", "-S", "10", "-w", "1")),
}


def measure(server, work, secs, seed=1, sockets=4, gso=True, rate=None, calm=True):
    flags = list(WORKS[work].flags)
    if "-T" not in flags:
        flags += ["-S", str(sockets), "-w", str(max(1, (UNDER_WAY_PACED if rate else UNDER_WAY) // sockets))] + ["-g"] * gso
    if rate:
        flags += ["-r", str(rate)]
    command = ["taskset", "-c", str(CLIENT_CPU), BIN / "blast", "-p", str(server.port), "-f", WORLD / "queries" / WORKS[work].queries,
               "-t", str(secs), "-R", str(seed), *flags]
    if calm:
        wait_for_calm()
    busy, cpu, begin = busy_seconds(), server.cpu(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wall = time.monotonic() - begin
    user, kernel = (after - before for after, before in zip(server.cpu(), cpu))
    if done.returncode:
        raise Trouble(f"{server.name}, {work}: {done.stderr.strip()}")
    figures = json.loads(done.stdout)
    if not figures["answered"]:
        raise Trouble(f"{server.name} answered nothing of {work}")
    figures["user_ns"] = user * 1e9 / figures["answered"]
    figures["ns"] = (user + kernel) * 1e9 / figures["answered"]
    figures["others"] = max(0, (busy_seconds() - busy - user - kernel) / wall - figures["client_cpu"])
    return figures | {"server": server.name, "work": work}


def busy_seconds():
    """CPU seconds that the whole machine has worked, or was kept from working by its host."""
    user, nice, system, _, _, irq, softirq, steal = map(int, open("/proc/stat").readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait_for_calm():
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        before, begin = busy_seconds(), time.monotonic()
        time.sleep(0.2)
        if (busy_seconds() - before) / (time.monotonic() - begin) < CALM:
            return
