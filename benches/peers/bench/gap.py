"""How long meridian's own loop stands still: a worker on a CPU of its own, everything else on the other, 10,000 zones; with reloads
of one changed file after the other, and without.

perf tells when the worker's thread enters and leaves system calls and when it is taken off its CPU. What it waits for in recvmmsg is
voluntary; from there to the next recvmmsg is one turn of the loop: what it answers and what it sends. Where the scheduler gave the
CPU to somebody else meanwhile, that is told apart. The product knows nothing of it: no clock is read on the way of a query.
"""

import itertools
import json
import re
import shutil
import subprocess
import time

from .client import CLIENT_CPU
from .paths import BIN, RUN, Trouble
from .process import SERVER_CPU, Process
from .reloads import Reloads
from .results import median, number, present, table
from .start import ALL_CPUS, FIRST_ADDRESS, NEW_ADDRESS, PORT, as_yaml, meridian, place, zone

ZONES = 10_000
SOCKETS = 64
RECVMMSG = "299"  # of x86-64
EVENT = re.compile(r"\s(\d+\.\d+):\s+(?:raw_syscalls:sys_(enter|exit): NR (-?\d+)|PERF_RECORD_SWITCH\w*\s+(IN|OUT)(\s+preempt)?)")


def run(servers, options):
    server = next((server for server in servers if server.name == "meridian"), None)
    if not server:
        raise Trouble("the gap is meridian's: it must be among the servers")
    folder = RUN / "gap"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "zones").mkdir(parents=True)
    put = lambda index, serial, address: place(folder / "zones" / f"{zone(index)}.yaml", as_yaml(index, serial, address, 0))
    for index in range(ZONES):
        put(index, 1, FIRST_ADDRESS)
    (folder / "queries").write_text("".join(f"www.{zone(index)} A\n" for index in range(ZONES)))
    change = changes(put)
    start, tell = meridian(server, folder, None)
    with open(folder / "meridian.yaml", "a") as file:
        file.write("workers: 1\n")
    process = Process("meridian", folder, PORT, start)
    rows = {"quiet": [], "reloading": []}
    reloads = []
    try:
        process.spawn(cpus=ALL_CPUS)
        process.wait_until_it_answers(f"www.{zone(ZONES - 1)}")
        worker = process.pin_worker(ALL_CPUS - {SERVER_CPU})
        saturating = ask(folder, options.secs, None)["answers_per_s"]
        rate = round(saturating / 2)
        for round_ in range(options.rounds):
            for kind in ("quiet", "reloading"):
                with Reloads(change, tell.split(), kind == "reloading") as reloading:
                    turns, figures = watch(folder, worker, lambda: ask(folder, options.secs, rate))
                reloads += reloading.seconds
                rows[kind].append(summary(turns) | {"reloads": len(reloading.seconds), "lost": figures["lost"]})
                print(f"round {round_ + 1} {kind:10} {rows[kind][-1]}", flush=True)
    finally:
        process.stop()
        shutil.rmtree(folder, ignore_errors=True)
    columns = ["while", "turns", "reloads", "middle us", "p99.9 us", "longest us", "longest in all us", "the same with others' time", "lost"]
    total = lambda kind, key: sum(row[key] for row in rows[kind])
    lines = [[kind, number(total(kind, "turns")), number(total(kind, "reloads")),
              *(number(median(row[key] for row in rows[kind])) for key in ("p50", "p99.9", "longest")),
              *(number(max(row[key] for row in rows[kind])) for key in ("longest", "with_others")), number(total(kind, "lost"))] for kind in rows]
    how = (f"{ZONES:,} zones, {rate:,} queries a second, half of what saturates it, {SOCKETS} client sockets; the worker on CPU {SERVER_CPU}, all else on "
           f"the other, the client and the reloads among it; a turn is from one recvmmsg to the next, without the time that the scheduler gave to others. {options.rounds} rounds of {options.secs:g} s each, in turn; "
           f"medians of the rounds, and the longest of all; a reload took {number(median(reloads), 2)} s.")
    present(options.results, "Gap in a worker's loop", how, [server], table(columns, lines))


def ask(folder, secs, rate):
    command = ["taskset", "-c", str(CLIENT_CPU), BIN / "blast", "-p", str(PORT), "-f", folder / "queries", "-t", str(secs), "-R", "1",
               "-S", str(SOCKETS), "-w", "64" if rate else "2", *(["-r", str(rate)] if rate else [])]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Trouble(f"blast: {done.stderr.strip()}")
    return json.loads(done.stdout)


def watch(folder, worker, work):
    """Turns of the loop while some work is done: microseconds with and without what the scheduler gave to others."""
    record = ["perf", "record", "--quiet", "--output", folder / "perf.data", "--tid", str(worker), "--switch-events", "--mmap-pages", "4096",
              "--event", "raw_syscalls:sys_enter,raw_syscalls:sys_exit"]
    perf = subprocess.Popen(record, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    done = work()
    perf.terminate()
    _, error = perf.communicate()
    if "LOST" in error or perf.returncode not in (0, -15):
        raise Trouble(f"perf: {error.strip()}")
    script = ["perf", "script", "--input", folder / "perf.data", "--ns", "--show-switch-events", "--fields", "comm,tid,time,event,trace"]
    text = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    turns, began, taken, out = [], None, 0.0, None
    for line in text.splitlines():
        if not (found := EVENT.search(line)):
            continue
        now, edge, call, switch, preempted = float(found[1]) * 1e6, found[2], found[3], found[4], found[5]
        if edge == "exit" and call == RECVMMSG:
            began, taken = now, 0.0
        elif edge == "enter" and call == RECVMMSG and began is not None:
            turns.append((now - began - taken, now - began))
            began = None
        elif switch == "OUT":
            # Not preempted: it waits for something, and that is the loop's own.
            out = now if preempted else None
        elif switch == "IN" and out is not None:
            taken, out = taken + now - out, None
    if not turns:
        raise Trouble(f"perf saw no turn of the loop: {text[:300]}")
    return turns, done


def summary(turns):
    own = sorted(own for own, _ in turns)
    return {"turns": len(own), "p50": own[len(own) // 2], "p99.9": own[len(own) * 999 // 1000], "longest": own[-1], "with_others": max(all_ for _, all_ in turns)}


def changes(put):
    """Puts one zone of many another address each time."""
    serials = itertools.count(int(time.time()))

    def change():
        serial = next(serials)
        put(ZONES // 2, serial, NEW_ADDRESS if serial % 2 else FIRST_ADDRESS)

    return change
