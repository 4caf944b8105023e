"""Those who ask in good faith, at a steady rate whether they are answered or not, and what they are told.

Over UDP they wait for one second and do not ask again; who gets TC asks over TCP, as a resolver does. Over TCP each query has a
connection of its own and two seconds.
"""

import asyncio
import random
import socket
import struct

from servers import ADDRESS, PORT

QUESTION = b"\3www\7example\3com\0" + struct.pack(">2H", 1, 1)
RIGHT = socket.inet_aton("192.0.2.80")
PATIENCE = {"udp": 1.0, "tcp": 2.0}


def ask(transport, source, rate, seconds):
    """How many asked and were answered, what was wrong, and the milliseconds of those that were answered."""
    return asyncio.run(ask_all(transport, source, rate, seconds))


async def ask_all(transport, source, rate, seconds):
    loop, count = asyncio.get_running_loop(), int(rate * seconds)
    begin, tasks = loop.time(), []
    for number in range(count):
        await asyncio.sleep(begin + number / rate - loop.time())
        tasks.append(asyncio.create_task(ask_once(transport, source)))
    told = await asyncio.gather(*tasks)
    times = sorted(took for kind, took in told if kind == "right")
    return {
        "asked": count, "answered": len(times), "wrong": sum(kind == "wrong" for kind, _ in told),
        "p50": percentile(times, 0.5), "p99": percentile(times, 0.99), "max": percentile(times, 1),
    }


def percentile(times, share):
    return round(times[min(len(times) - 1, int(len(times) * share))], 3) if times else None


async def ask_once(transport, source):
    loop = asyncio.get_running_loop()
    began = loop.time()
    query = struct.pack(">6H", random.getrandbits(16), 0, 1, 0, 0, 0) + QUESTION
    try:
        response = await asyncio.wait_for(EXCHANGE[transport](loop, source, query), PATIENCE[transport])
        if transport == "udp" and response[2] & 2:
            response = await asyncio.wait_for(over_tcp(loop, source, query), PATIENCE["tcp"])
    except (OSError, EOFError, TimeoutError, asyncio.TimeoutError):
        return "lost", None
    took = (loop.time() - began) * 1e3
    right = response[:2] == query[:2] and response[2] & 0x80 and response[3] & 15 == 0 and RIGHT in response
    return ("right" if right else "wrong"), took


async def over_udp(loop, source, query):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind((source, 0))
        client.connect((ADDRESS, PORT))
        await loop.sock_sendall(client, query)
        return whole(await loop.sock_recv(client, 65535))


async def over_tcp(loop, source, query):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.bind((source, 0))
        await loop.sock_connect(client, (ADDRESS, PORT))
        await loop.sock_sendall(client, struct.pack(">H", len(query)) + query)
        received = b""
        while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2], "big"):
            octets = await loop.sock_recv(client, 65535)
            if not octets:
                raise EOFError
            received += octets
        return whole(received[2:])


def whole(response):
    """What has no header is no response."""
    if len(response) < 12:
        raise EOFError
    return response


EXCHANGE = {"udp": over_udp, "tcp": over_tcp}
