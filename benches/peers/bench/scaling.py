"""What a second worker costs: meridian with one and with two, at a given rate."""

import random

from .client import CLIENT_CPU, WORKS, measure
from .results import median, number, present, table
from .server import Server
from .verify import verify

SOCKETS = 64  # the kernel gives a socket's queries to one worker: with few sockets one worker may get all of them


def run(servers, options):
    """`servers` are not looked at: this is about meridian alone."""
    works = options.work or ["geo"]
    rows, version = [], None
    for work in works:
        rate, found = None, {}
        for round_ in range(options.rounds):
            # the same load for each worker, and the same load for both together
            cases = [(1, 1), (2, 1), (2, 2)]
            random.Random(round_).shuffle(cases)
            for workers, times in cases:
                server = Server("meridian", options.meridian, workers)
                try:
                    server.start(cpus={0, 1})
                    if not rate:
                        verify(server, [work])
                        rate = round(measure(server, work, options.secs, sockets=SOCKETS, gso=not options.nogso)["answers_per_s"] / 5)
                    row = measure(server, work, options.secs, round_ + 1, SOCKETS, not options.nogso, rate * times)
                finally:
                    server.stop()
                version = server
                found.setdefault((workers, times), []).append(row)
                print(f"round {round_ + 1} {work:9} {workers} workers {rate * times:,}/s {row['ns']:,.0f} ns, user {row['user_ns']:,.0f}", flush=True)
        for (workers, times), measured in sorted(found.items()):
            ratio = lambda key: median(row[key] / base[key] if base[key] else None for row, base in zip(measured, found[1, 1]))
            of = lambda key: median(row[key] for row in measured)
            rows.append([work, str(workers), number(rate * times), number(of("ns")), number(of("user_ns")), number(ratio("ns"), 2),
                         number(ratio("user_ns"), 2), number(median(row["us"]["p99"] for row in measured)), number(100 * of("client_cpu"), 0, "%"), number(sum(r["lost"] for r in measured))])
    shared = "the client has a CPU of its own" if CLIENT_CPU > 1 else \
        "**the client shares a CPU with a worker, for there are two in all: only CPU ns say something, and those with caches shared**"
    how = (f"meridian on CPUs 0 and 1, {SOCKETS} client sockets; {shared}. {options.rounds} rounds of {options.secs:g} s; "
           "medians, `x` against one worker within a round.")
    columns = ["work", "workers", "queries/s", "CPU ns", "in user space", "CPU x", "user x", "p99 us", "client busy", "lost"]
    present(options.results, "Scaling", how, [version], table(columns, rows) + "\n\n" + "\n".join(f"- {work}: {WORKS[work].about}" for work in works))
