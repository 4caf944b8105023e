"""All servers as fast as they answer, one after the other, in another order each round; one table with the ratios that count."""

import json
import random

from .client import WORKS, measure
from .paths import DATA, Trouble
from .results import median, number, present, table
from .verify import verify

BASES = ("echo", "gdnsd")
BUSY_CLIENT = 0.9
BUSY_OTHERS = 0.3


def run(servers, options):
    works = options.work or list(WORKS)
    started = [server for server in servers if set(server.work) & set(works) and ready(server, works)]
    rows = []
    with open(DATA / "rounds.jsonl", "w") as raw:
        for number_ in range(options.rounds):
            for work in works:
                able = [server for server in started if work in server.work]
                random.Random(f"{number_} {work}").shuffle(able)
                for server in able:
                    try:
                        row = measure(server, work, options.secs, number_ + 1, options.sockets, not options.nogso)
                    except Trouble as trouble:
                        print(f"round {number_ + 1}: {trouble}", flush=True)
                        continue
                    row["round"] = number_
                    rows.append(row)
                    raw.write(json.dumps(row) + "\n")
                    print(f"round {number_ + 1} {work:9} {server.name:12} {row['answers_per_s']:9,.0f}/s {row['ns']:8,.0f} ns, "
                          f"user {row['user_ns']:7,.0f}; client {row['client_cpu']:.0%}, others {row['others']:.0%}", flush=True)
    body = "\n\n".join([
        table(["work", "server", "answers/s", "CPU ns", "least to most", "in user space", "x echo", "x gdnsd", "answers x gdnsd",
               "client busy", "note"], lines(rows, works)),
        "\n".join(f"- {work}: {WORKS[work].about}" for work in works),
        "\n".join(f"- {server.name}: {server.about}. {server.verified}" for server in started),
    ])
    how = (f"Server on one CPU with one worker, client on another, {options.sockets} client sockets, "
           f"{'no ' if options.nogso else ''}GSO in the client; {options.rounds} rounds of {options.secs:g} s. Medians; "
           "`x` are medians of the ratios of CPU ns (and of answers) within a round.")
    present(options.results, title(options), how, started, body)


def title(options):
    return "Load" + (f", {options.sockets} client sockets" if options.sockets != 4 else "") + (", no GSO" if options.nogso else "")


def ready(server, works):
    try:
        server.start()
        server.verified = verify(server, [work for work in works if work in server.work])
    except Trouble as trouble:
        server.stop()
        print(f"{server.name} is LEFT OUT: {trouble}", flush=True)
        return False
    print(f"{server.name}: {server.verified}", flush=True)
    return True


def lines(rows, works):
    of = {(row["work"], row["round"], row["server"]): row for row in rows}
    for work in works:
        servers = {row["server"] for row in rows if row["work"] == work}
        every = {name: [row for row in rows if (row["work"], row["server"]) == (work, name)] for name in servers}
        middle = lambda name, key: median(row[key] for row in every[name])
        for name in sorted(servers, key=lambda name: middle(name, "ns")):
            ratio = lambda base, key: median(
                row[key] / of[work, row["round"], base][key] for row in every[name] if (work, row["round"], base) in of)
            costs = [row["ns"] for row in every[name]]
            yield [work, name, number(middle(name, "answers_per_s")), number(middle(name, "ns")),
                   f"{min(costs):,.0f} to {max(costs):,.0f}", number(middle(name, "user_ns")),
                   *(number(ratio(base, "ns"), 2) for base in BASES), number(ratio("gdnsd", "answers_per_s"), 2),
                   number(100 * middle(name, "client_cpu"), 0, "%"), note(every[name])]


def note(rows):
    remarks = []
    if median(row["client_cpu"] for row in rows) > BUSY_CLIENT:
        remarks.append("the client is the limit: answers/s prove nothing")
    if (others := median(row["others"] for row in rows)) > BUSY_OTHERS:
        remarks.append(f"others used {others:.0%} of a CPU")
    if lost := sum(row["lost"] for row in rows):
        remarks.append(f"{lost:,} lost")
    return "; ".join(remarks)
