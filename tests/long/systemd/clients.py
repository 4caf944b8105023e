"""Who is checked and who asks: processes in the machine's network, started by this file's classes and run from it."""

import contextlib
import json
import queue
import socket
import struct
import subprocess
import sys
import threading
import time

from expectations import expect

CLIENTS = __file__
RATE = 5000
SITE = "127.83.0.1"


class Other:
    def __init__(self, machine, *words):
        self.process = subprocess.Popen(["nsenter", "-t", str(machine.pid), "-n", sys.executable, CLIENTS, *words],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=lambda: [self.lines.put(line.strip()) for line in self.process.stdout], daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self):
        try:
            return self.lines.get(timeout=20)
        except queue.Empty:
            raise AssertionError("nothing is heard of it for 20 s") from None


class Site(Other):
    """A server that answers checks, or lets them wait."""

    def __init__(self, machine):
        super().__init__(machine, "--site")
        self.hear()

    def hold(self):
        self.say("hold")
        self.hear()

    def answer(self):
        self.say("answer")

    def wait_until_asked(self, path=b"/"):
        while self.hear() != path.decode():
            pass


def be_site():
    listener = socket.create_server((SITE, 80), backlog=64)
    may_answer = threading.Event()
    may_answer.set()
    is_held = [False]

    def serve(connection):
        path = connection.recv(4096).split(b" ")[1].decode()
        if is_held[0]:
            print(path, flush=True)
        may_answer.wait()
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            connection.close()

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("ready", flush=True)
    for word in sys.stdin:
        is_held[0] = word == "hold\n"
        may_answer.clear() if is_held[0] else may_answer.set()
        if is_held[0]:
            print("held", flush=True)


class Load(Other):
    """Whoever asks at a steady rate, from many ports; when it is over, what was told."""

    def __init__(self, machine):
        super().__init__(machine, "--load")
        self.hear()

    def __exit__(self, kind, *_):
        if kind is None:
            self.say("stop")
            self.told = json.loads(self.hear())
        super().__exit__()


def be_load():
    """Lines on standard output: one when the first answer is there, one with figures when there is a line on standard input."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        each.connect(("127.0.0.1", 53))
    # By ID; both when it was asked and when it was answered, in seconds.
    asked = [dict() for _ in sockets]
    answered = [dict() for _ in sockets]
    stop, is_over = threading.Event(), threading.Event()

    def hear(which):
        sockets[which].settimeout(0.1)
        while not is_over.is_set():
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                response = sockets[which].recv(4096)
                answered[which][struct.unpack(">H", response[:2])[0]] = time.monotonic()

    def listen():
        sys.stdin.readline()
        stop.set()

    threads = [threading.Thread(target=hear, args=(which,)) for which in range(len(sockets))]
    for thread in threads:
        thread.start()
    threading.Thread(target=listen, daemon=True).start()
    query = question("v")
    count, begin, is_told = 0, time.monotonic(), False
    while not stop.is_set():
        due = int((time.monotonic() - begin) * RATE)
        for number in range(count, due):
            which, identifier = number % len(sockets), number // len(sockets) & 0xFFFF
            asked[which][identifier] = time.monotonic()
            with contextlib.suppress(ConnectionRefusedError):
                sockets[which].send(struct.pack(">H", identifier) + query[2:])
        count = max(due, count)
        if not is_told and answered[0]:
            is_told = True
            print("going", flush=True)
        time.sleep(0.001)
    end = time.monotonic() + 3
    while time.monotonic() < end and any(len(one) != len(other) for one, other in zip(asked, answered)):
        time.sleep(0.05)
    is_over.set()
    for thread in threads:
        thread.join()
    times = sorted((answered[which][identifier] - at) * 1000 for which in range(len(sockets)) for identifier, at in asked[which].items() if identifier in answered[which])
    lost = [at - begin for which in range(len(sockets)) for identifier, at in asked[which].items() if identifier not in answered[which]]
    part = lambda of: times[min(int(of * len(times)), len(times) - 1)]
    print(json.dumps({"asked": count, "lost": sorted(lost), "p50": part(0.5), "p99": part(0.99), "slowest": times[-1]}), flush=True)


def be_asker(name, within):
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(float(within))
    client.connect(("127.0.0.1", 53))
    query = question(name)
    with contextlib.suppress(TimeoutError, ConnectionRefusedError):
        client.send(query)
        response = client.recv(4096)
        at = len(query) + 12
        if response[6:8] == b"\0\1":
            print(response[at:].hex())


def question(name):
    wire = b"".join(bytes([len(label)]) + label.encode() for label in (name, "example", "com")) + b"\0"
    return struct.pack(">6H", 1, 0, 1, 0, 0, 0) + wire + struct.pack(">2H", 16, 1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--site"]:
            be_site()
        case ["--load"]:
            be_load()
        case ["--ask", name, within]:
            be_asker(name, within)
