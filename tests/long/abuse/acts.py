"""What is done to a server, and what it and others say to that. Each act has a server of its own, in a network of its own."""

import multiprocessing
import os
import re
import time

import attackers
import clients
import packets
import servers

ATTACKER, CLIENT, VICTIM = "127.0.1.1", "127.0.0.2", "127.64.7.53"
SECONDS = 5
UDP_RATE, TCP_RATE = 100, 50
HELD = 1000
NEVER_READ = 50
STORM = 5000
FLOOD = 20_000
FORGED = 10_000
# Fewer than most servers would let connections in if they could.
DESCRIPTORS, TOO_MANY = 128, 400
# No server has a limit that so few connections of an address reach.
FROM_MANY = [f"127.0.3.{number}" for number in range(1, 21)]
# Who has all rights may raise its own limit of descriptors, and most servers do.
FEW_DESCRIPTORS = f"prlimit --nofile={DESCRIPTORS}:{DESCRIPTORS} setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource"

fork = multiprocessing.get_context("fork")


# --- the acts; each gives figures

def calm(start):
    with start() as server:
        return asked()


def half_messages(start):
    return held(start, attackers.HALF)


def silence(start):
    return held(start, b"")


def held(start, octets):
    with start() as server, Attack(attackers.hold, [ATTACKER], HELD, octets, True) as attack:
        figures = asked()
    return figures | attack.figures


def odd_packets(start):
    with start() as server:
        before = set(server.pids())
        sender = Beside(packets.send_all, ATTACKER, SECONDS)
        figures = asked() | sender.result()
        return figures | {"ended": len(before - set(server.pids())), "afterwards": clients.ask("udp", CLIENT, UDP_RATE, 0.5)}


def descriptors(start):
    with start(before=FEW_DESCRIPTORS) as server:
        limits = sorted({re.search(r"Max open files +(\S+)", open(f"/proc/{pid}/limits").read())[1] for pid in server.pids()})
        with Attack(attackers.hold, FROM_MANY, TOO_MANY, attackers.HALF, True) as attack:
            time.sleep(0.5)
            cpu, begin = sum(server.cpu()), time.monotonic()
            time.sleep(2)
            opened = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in server.pids())
            share = (sum(server.cpu()) - cpu) / (time.monotonic() - begin)
            figures = asked()
        time.sleep(0.5)
        return figures | attack.figures | {"cpu": share, "descriptors": opened, "limits": limits, "afterwards": asked()}


def answers_unread(start):
    with start() as server:
        before = most = server.memory()["resident"]
        cpu, begin = sum(server.cpu()), time.monotonic()
        with Attack(attackers.never_read, [ATTACKER], NEVER_READ) as attack:
            asking = [Beside(clients.ask, "udp", CLIENT, UDP_RATE, SECONDS), Beside(clients.ask, "tcp", CLIENT, TCP_RATE, SECONDS)]
            while any(one.is_running() for one in asking):
                most = max(most, server.memory()["resident"])
                time.sleep(0.1)
            udp, tcp = (one.result() for one in asking)
            share = (sum(server.cpu()) - cpu) / (time.monotonic() - begin)
        return {"udp": udp, "tcp": tcp, "grown": most - before, "cpu": share} | attack.figures


def opened_and_reset(start):
    with start() as server, Attack(attackers.storm, ATTACKER, STORM) as attack:
        figures = asked()
    return figures | attack.figures


def random_labels(start):
    """The same flood with a name that is there, and with names that are not."""
    with start() as server:
        hits = flooded(server, attackers.a_hit, attackers.anybody, FLOOD)
        before = server.memory()["resident"]
        misses = flooded(server, attackers.a_random_label, attackers.anybody, FLOOD)
        return {"hits": hits, "misses": misses, "grown": server.memory()["resident"] - before}


def forged(start):
    """Large responses for a network that did not ask for them; then for everybody."""
    with start() as server:
        network = flooded(server, attackers.what_is_big, attackers.the_victim, FORGED, others=VICTIM)
        everybody = flooded(server, attackers.what_is_big, attackers.anybody, FORGED)
        return {"network": network, "everybody": everybody}


def forged_limited(start):
    return forged(lambda: start(limited=True))


ACTS = {act.__name__: act for act in (
    calm, half_messages, silence, answers_unread, opened_and_reset, descriptors, odd_packets, random_labels, forged, forged_limited)}


# --- their parts

def asked():
    udp, tcp = Beside(clients.ask, "udp", CLIENT, UDP_RATE, SECONDS), Beside(clients.ask, "tcp", CLIENT, TCP_RATE, SECONDS)
    return {"udp": udp.result(), "tcp": tcp.result()}


def flooded(server, make, source, rate, others=None):
    """What the server did with the flood, by the kernel's counters of this network: nobody else is in it but a few who ask."""
    before, cpu = Counters(), sum(server.cpu())
    with Attack(attackers.flood, make, source, rate) as attack:
        asking = [Beside(clients.ask, "udp", client, 20, SECONDS) for client in [CLIENT, *filter(None, [others])]]
        told = [one.result() for one in asking]
    after, cpu = Counters(), sum(server.cpu()) - cpu
    own = sum(each["asked"] for each in told)
    sent, octets = attack.figures["sent"], attack.figures["octets"]
    responses = after.datagrams - before.datagrams - sent - own - sum(each["answered"] for each in told)
    return {"sent": sent, "rate": sent / attack.figures["seconds"], "responses": responses / sent,
            "octets": (after.octets - before.octets - octets) / octets, "cpu_us": cpu * 1e6 / (sent + own),
            "bystander": told[0], "victim": told[1] if others else None}


class Counters:
    def __init__(self):
        self.datagrams = counter("/proc/self/net/snmp", "Udp", "OutDatagrams")
        self.octets = counter("/proc/self/net/netstat", "IpExt", "OutOctets")


def counter(path, group, name):
    names, values = (line.split() for line in open(path) if line.startswith(f"{group}:"))
    return int(values[names.index(name)])


class Beside:
    """A function in a process of its own, so that nobody waits for somebody else's turn."""

    def __init__(self, function, *arguments):
        self.ours, theirs = fork.Pipe(duplex=False)
        self.process = fork.Process(target=lambda: theirs.send(function(*arguments)))
        self.process.start()
        theirs.close()

    def is_running(self):
        return not self.ours.poll()

    def result(self):
        told = self.ours.recv()
        self.process.join()
        return told


class Attack:
    """Begins at once, and is there when the block begins."""

    def __init__(self, attacker, *arguments):
        self.ready, self.over, self.figures = fork.Event(), fork.Event(), None
        self.beside = Beside(attacker, *arguments, self.ready, self.over)

    def __enter__(self):
        if not self.ready.wait(30):
            raise SystemExit("the attacker was never ready")
        return self

    def __exit__(self, *_):
        self.over.set()
        self.figures = self.beside.result()
