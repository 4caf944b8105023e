"""Those who do not ask in good faith. Each runs in a process of its own until it is told that it is over, and then tells what it did."""

import random
import select
import socket
import struct
import time

import clients
from servers import ADDRESS, PORT

MESSAGE = struct.pack(">H", 12 + len(clients.QUESTION)) + struct.pack(">6H", 1, 0, 1, 0, 0, 0) + clients.QUESTION
BIG = b"\3big\7example\3com\0" + struct.pack(">2H", 16, 1)
OPT = b"\0" + struct.pack(">HHIH", 41, 1232, 0, 0)
HALF = MESSAGE[:len(MESSAGE) // 2]
# As much as a connection takes of it at a time.
PIPELINE = (struct.pack(">H", 12 + len(BIG)) + struct.pack(">6H", 1, 0, 1, 0, 0, 0) + BIG) * 500
# Closed connections are opened anew so often.
REFILL_EVERY = 1.0
# A datagram's source is chosen as it is sent (ip(7); Python's socket has no name for it yet).
IP_PKTINFO = 8
# IPv4 and UDP, before what is counted as sent.
HEADERS = 28


# --- connections

def hold(sources, count, octets, refills, ready, over):
    """So many connections, each of which says these octets and nothing else."""
    connections = Connections(sources, count, octets)
    ready.set()
    while not over.is_set():
        connections.notice_closed(0.05)
        if refills:
            connections.refill()
    return connections.figures()


def never_read(sources, count, ready, over):
    """So many connections, each of which asks as long as it is heard and reads nothing."""
    connections = Connections(sources, count, b"", receive_buffer=4096)
    ready.set()
    sent = 0
    while not over.is_set():
        taken = 0
        for client in list(connections.open.values()):
            try:
                taken += client.send(PIPELINE)
            except BlockingIOError:
                pass
            except OSError:
                connections.forget(client)
        sent += taken
        connections.refill()
        if not taken:
            over.wait(0.05)
    return connections.figures() | {"sent": sent}


class Connections:
    def __init__(self, sources, count, octets, receive_buffer=None):
        self.sources, self.count, self.octets, self.receive_buffer = sources, count, octets, receive_buffer
        self.open, self.opened, self.poll = {}, 0, select.epoll()
        # How many were still open when it was time to open others.
        self.left = []
        self.fill()

    def refill(self):
        if time.monotonic() >= self.filled + REFILL_EVERY:
            self.left.append(len(self.open))
            self.fill()

    def figures(self):
        return {"held": max(self.left, default=len(self.open)), "opened": self.opened}

    def fill(self):
        self.filled = time.monotonic()
        for _ in range(self.count - len(self.open)):
            client = socket.socket()
            if self.receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            client.bind((self.sources[self.opened % len(self.sources)], 0))
            client.setblocking(False)
            client.connect_ex((ADDRESS, PORT))
            self.opened += 1
            try:
                client.send(self.octets)
            except OSError:
                # Refused, or nobody there to finish the handshake.
                client.close()
                continue
            self.open[client.fileno()] = client
            # Whoever reads nothing does not learn in this way that it is over, but by writing.
            self.poll.register(client, 0 if self.receive_buffer else select.EPOLLIN | select.EPOLLRDHUP)

    def notice_closed(self, patience):
        for descriptor, _ in self.poll.poll(patience):
            client = self.open[descriptor]
            try:
                if client.recv(4096):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            self.forget(client)

    def forget(self, client):
        self.poll.unregister(client)
        del self.open[client.fileno()]
        client.close()


def storm(source, rate, ready, over):
    """Connections that are reset as soon as they are open."""
    ready.set()
    begin, opened = time.monotonic(), 0
    while not over.is_set():
        for _ in range(min(int((time.monotonic() - begin) * rate) - opened, 100)):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.bind((source, 0))
            client.setblocking(False)
            client.connect_ex((ADDRESS, PORT))
            client.close()
            opened += 1
        time.sleep(0.001)
    return {"opened": opened, "seconds": time.monotonic() - begin}


# --- datagrams

def flood(make, source, rate, ready, over):
    """So many a second, each from an address of its own, whose responses nobody reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        # Not connected: what comes for any of its addresses is to find it, or the kernel answers each with an ICMP error.
        client.bind(("0.0.0.0", 0))
        ready.set()
        begin, sent, octets = time.monotonic(), 0, 0
        while not over.is_set():
            due = int((time.monotonic() - begin) * rate)
            for _ in range(min(due - sent, 500)):
                packet = make()
                client.sendmsg([packet], [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 0, source(), bytes(4)))], 0, (ADDRESS, PORT))
                sent += 1
                octets += len(packet) + HEADERS
            if sent >= due:
                time.sleep(0.001)
        return {"sent": sent, "octets": octets, "seconds": time.monotonic() - begin}


def a_hit():
    return struct.pack(">6H", random.getrandbits(16), 0, 1, 0, 0, 0) + clients.QUESTION


def a_random_label():
    return struct.pack(">6H", random.getrandbits(16), 0, 1, 0, 0, 0) + b"\x10%016x" % random.getrandbits(64) + clients.QUESTION[4:]


def what_is_big():
    return struct.pack(">6H", random.getrandbits(16), 0, 1, 0, 0, 1) + BIG + OPT


def anybody():
    """Of all that is loopback but what the server and its clients have."""
    return bytes((127, random.randrange(1, 255), random.randrange(256), random.randrange(1, 255)))


def the_victim():
    """A network of which everybody asks."""
    return bytes((127, 64, 7, random.randrange(1, 255)))
