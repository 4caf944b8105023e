"""What was found, as a table of one column for each server; and what of it meridian must not do."""

import acts
from servers import LIMIT, SERVERS

DASH = "-"


def table_of(found, versions, day):
    """`found` has figures by act and server."""
    head = [f"| | {' | '.join(SERVERS[key][0] for key in versions)} |", "|---|" + "---|" * len(versions)]
    rows = [f"| {what} | {' | '.join(cell(show, found.get((act, key))) for key in versions)} |"
            for act, what, show in ROWS if any(name == act for name, _ in found)]
    return f"{day}, two virtual cores; {', '.join(f'{SERVERS[key][0]} {version}' for key, version in versions.items())}.\n\n" + "\n".join(head + rows) + "\n"


def cell(show, figures):
    if figures is None:
        return DASH
    return f"no figures: {figures['trouble']}" if "trouble" in figures else show(figures)


# --- what a cell says

def told(figures):
    """How many were answered, and after how many milliseconds."""
    if not figures["answered"]:
        return "**none**"
    wrong = f", {figures['wrong']} wrong" if figures["wrong"] else ""
    return f"{share(figures)}{wrong}; {number(figures['p50'])} / {number(figures['p99'])} / {number(figures['max'])}"


def share(figures):
    """Never rounded up to all."""
    if figures["answered"] == figures["asked"]:
        return "all"
    return f"**{int(1000 * figures['answered'] / figures['asked']) / 10:g} %**"


def number(value):
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def at(key):
    return lambda figures: told(figures[key])


def descriptors(figures):
    return f"{figures['descriptors']}, {figures['cpu'] * 100:.0f} %"


def odd_packets(figures):
    alive = "lives" if not figures["ended"] and figures["afterwards"]["answered"] else "**dies**"
    return f"{alive}; {len(figures['answered_responses'])}; {len(figures['too_long'])}"


def cost(figures):
    hits, misses = figures["hits"], figures["misses"]
    slower = f" (at {misses['rate']:,.0f} a second)" if misses["rate"] < 0.95 * acts.FLOOD else ""
    return f"{hits['cpu_us']:.1f}, {misses['cpu_us']:.1f} µs{slower}; {misses['responses'] * 100:.0f} %; {figures['grown']:+.1f} MB"


def reflected(figures):
    network = figures["network"]
    return f"{network['responses'] * 100:.0f} %, × {network['octets']:.1f}; {share(network['victim'])}, {share(network['bystander'])}"


def while_forged(figures):
    return told(figures["everybody"]["bystander"])


ROWS = [
    ("calm", "nobody abuses it: UDP", at("udp")),
    ("calm", "... TCP", at("tcp")),
    ("half_messages", f"{acts.HELD:,} half messages over TCP, held from one address: TCP", at("tcp")),
    ("half_messages", "... UDP", at("udp")),
    ("half_messages", "... connections that it gets to hold", lambda figures: f"{figures['held']:,}"),
    ("silence", f"{acts.HELD:,} connections that say nothing, from one address: TCP", at("tcp")),
    ("silence", "... UDP", at("udp")),
    ("answers_unread", f"{acts.NEVER_READ} connections that ask without end and read nothing: TCP", at("tcp")),
    ("answers_unread", "... UDP", at("udp")),
    ("answers_unread", "... memory at most, of a core", lambda figures: f"{figures['grown']:.1f} MB, {figures['cpu'] * 100:.0f} %"),
    ("opened_and_reset", f"{acts.STORM:,} connections a second, reset at once: TCP", at("tcp")),
    ("opened_and_reset", "... UDP", at("udp")),
    ("descriptors", f"{acts.DESCRIPTORS} descriptors, {acts.TOO_MANY} half messages from {len(acts.FROM_MANY)} addresses: TCP", at("tcp")),
    ("descriptors", "... UDP", at("udp")),
    ("descriptors", "... descriptors of all its processes, of a core while nobody else asks", descriptors),
    ("descriptors", "... half a second later: UDP; TCP", lambda figures: f"{share(figures['afterwards']['udp'])}; {share(figures['afterwards']['tcp'])}"),
    ("odd_packets", "odd packets over UDP and TCP: UDP", at("udp")),
    ("odd_packets", "... TCP", at("tcp")),
    ("odd_packets", "... the server; responses that it answered; errors that were too long", odd_packets),
    ("random_labels", f"{acts.FLOOD:,} queries a second, from everywhere: CPU of one for a name that is there, for a random one; of those answered; memory", cost),
    ("random_labels", "... others, meanwhile", lambda figures: told(figures["misses"]["bystander"])),
    ("forged", f"{acts.FORGED:,} queries a second forged in the name of a /24, as shipped: responses, octets for each octet; who is there, others", reflected),
    ("forged", "... in the name of everybody: others", while_forged),
    ("forged_limited", f"the same with a limit of {LIMIT:,} responses a second for a /24: responses, octets for each octet; who is there, others", reflected),
    ("forged_limited", "... in the name of everybody: others", while_forged),
]


# --- what meridian promises

def problems_of(found):
    """By act. A machine that is busy may lose one in a hundred over UDP, and a connection in twenty."""
    problems = []
    for act, figures in found.items():
        if "trouble" in figures:
            problems.append(f"{act}: {figures['trouble']}")
            continue
        for transport, least in (("udp", 0.99), ("tcp", 0.95)):
            if transport in figures and figures[transport]["answered"] < least * figures[transport]["asked"]:
                problems.append(f"{act}: {transport} {told(figures[transport])}")
        # Milliseconds, of a machine that has nothing else to do.
        if act == "half_messages" and figures["tcp"]["answered"] and figures["tcp"]["p99"] > 25:
            problems.append(f"{act}: others wait: tcp {told(figures['tcp'])}")
        if act == "descriptors" and figures["cpu"] >= 0.01:
            problems.append(f"{act}: {figures['cpu'] * 100:.1f} % of a core, for nothing")
        # What connections may hold; random names hold nothing.
        most = 1 if act == "random_labels" else 80
        if figures.get("grown", 0) > most:
            problems.append(f"{act}: memory grew by {figures['grown']:.0f} MB")
        problems.extend(f"{act}: a response was answered: {packet}" for packet in figures.get("answered_responses", []))
        problems.extend(f"{act}: an error is too long: {packet}" for packet in figures.get("too_long", []))
        if figures.get("ended"):
            problems.append(f"{act}: it ended")
    forged, limited = (found.get(act, {}).get("network") for act in ("forged", "forged_limited"))
    if forged and limited and limited["octets"] > forged["octets"] / 2:
        problems.append(f"forged_limited: × {limited['octets']:.1f} is not limited")
    for act in ("forged", "forged_limited", "random_labels"):
        for name, flood in found.get(act, {}).items():
            for who in ("bystander", "victim"):
                told_to = flood.get(who) if isinstance(flood, dict) else None
                if told_to and told_to["answered"] < 0.95 * told_to["asked"]:
                    problems.append(f"{act}, {name}: {who} {told(told_to)}")
    return problems
