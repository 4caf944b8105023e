"""Latency at half of the load that saturates the slowest of meridian, gdnsd and echo; and meridian's while all of it is reloaded.

Latency counts from when a query was due, so that what waits because the server stalls is counted with its wait.
"""

import collections
import os
import random
import shutil

from .client import WORKS, measure
from .load import ready
from .paths import CITY, RUN, WORLD, Trouble
from .process import SERVER_CPU
from .reloads import Reloads
from .results import median, number, present, table
from .start import ALL_CPUS

COMPARED = ("echo", "gdnsd", "meridian")
RELOADED = "meridian, reloading"
RELOADED_BESIDE = "meridian, reloading beside"
OWN_CITY = RUN / "city.mmdb"  # of meridian alone, so that it may be touched


def run(servers, options):
    servers = [server for server in servers if server.name in COMPARED]
    RUN.mkdir(exist_ok=True)
    shutil.copy(CITY, OWN_CITY)
    for server in servers:
        if server.name == "meridian":
            server.command += f" --geodb {OWN_CITY}"
    works = options.work or ["geo"]
    started = [server for server in servers if ready(server, works)]
    by_name = {server.name: server for server in started}
    if set(by_name) != set(COMPARED):
        raise Trouble(f"latency needs all of {', '.join(COMPARED)}")
    rows = []
    for work in works:
        how = {"sockets": options.sockets, "gso": not options.nogso}
        rate = round(min(measure(server, work, options.secs, **how)["answers_per_s"] for server in started) / 2)
        reloads, found = collections.defaultdict(list), {name: [] for name in (*COMPARED, RELOADED, RELOADED_BESIDE)}
        for round_ in range(options.rounds):
            names = list(found)
            random.Random(f"{round_} {work}").shuffle(names)
            for name in names:
                server = by_name[name.split(",")[0]]
                if server.name == "meridian":
                    server.pin_worker(ALL_CPUS if name == RELOADED_BESIDE else {SERVER_CPU})
                reload = [server.meridian, "reload", "--control", server.folder / "meridian.sock"]
                with Reloads(touch_everything, reload, name in (RELOADED, RELOADED_BESIDE)) as reloading:
                    row = measure(server, work, options.secs, round_ + 1, rate=rate, **how)
                reloads[name] += reloading.seconds
                found[name].append(row)
                print(f"round {round_ + 1} {work:9} {name:20} {row['us']}, lost {row['lost']}", flush=True)
        rows += lines(work, rate, found, reloads)
    columns = ["work", "server", "queries/s", "p50 us", "p99 us", "p99.9 us", "slowest us", "p99 x gdnsd", "p99.9 over echo us", "lost", "reloads"]
    how = (f"The same rate for all, half of what saturates the slowest; {options.rounds} rounds of {options.secs:g} s, another order in each; "
           "medians, `x` and `over` within a round. *Reloading*: meridian shares its one CPU with the reload. *Beside*: the worker has that "
           "CPU, the client the other, and the reload goes where the kernel puts it.")
    present(options.results, "Latency", how, started, table(columns, rows) + "\n\n" + "\n".join(f"- {work}: {WORKS[work].about}" for work in works))


def lines(work, rate, found, reloads):
    for name, rows in found.items():
        of = lambda key: median(row["us"][key] for row in rows)
        ratio = median(row["us"]["p99"] / base["us"]["p99"] for row, base in zip(rows, found["gdnsd"]))
        over = median(row["us"]["p99.9"] - base["us"]["p99.9"] for row, base in zip(rows, found["echo"]))
        yield [work, name, number(rate), number(of("p50")), number(of("p99")), number(of("p99.9")), number(max(row["us"]["max"] for row in rows)),
               number(ratio, 2), number(over), number(sum(row["lost"] + row["send_failed"] for row in rows)),
               f"{len(reloads[name])} of {number(median(reloads[name]), 2)} s" if reloads[name] else "-"]


def touch_everything():
    """Zones, sites, services and geo database."""
    for path in (OWN_CITY, *(WORLD / "meridian").iterdir()):
        os.utime(path)
