"""More long bodies at once than fit into memory: the proxy's memory stays under 300 MB.

In each wave every client sends its whole body, and the provider answers nobody until each of them has
its 503 or has been sent on. Nobody gets anything but 200 and 503, good traffic nothing but 200.
Usage: bodies.py
"""

import asyncio
import json
import socket
import sys

import bed

MEMORY_MB = 300
# How many, of which length, of which kind the provider is.
WAVES = [(200, 5_000_000, "openai"), (2000, 250_000, "openai"), (200, 5_000_000, "anthropic")]
# How long a wave may take.
PATIENCE = 60

SAID = {
    "openai": {"id": "1", "object": "chat.completion", "model": "big",
               "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]},
    "anthropic": {"id": "1", "type": "message", "role": "assistant", "model": "big", "stop_reason": "end_turn",
                  "content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1, "output_tokens": 1}},
}


class Provider:
    """Reads what it is sent and answers when it is told to."""

    def __init__(self, kind):
        self.go_on = asyncio.Event()
        self.asked = 0
        body = json.dumps(SAID[kind]).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.answer = head % len(body) + body

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            left = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
            while left > 0:
                piece = await reader.read(65536)
                if not piece:
                    return
                left -= len(piece)
            self.asked += 1
            await self.go_on.wait()
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def send(port, ask, statuses):
    """Sends a body; keeps the status, also where it comes while the body is on its way."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)

    async def upload():
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(ask))
        for at in range(0, len(ask), 65536):
            writer.write(ask[at : at + 65536])
            await writer.drain()

    # Who is refused in the middle of a body may lose the answer to the reset.
    upload = asyncio.create_task(upload())
    try:
        line = await reader.readline()
        statuses.append(int(line.split()[1]) if line else 503)
    except ConnectionError:
        statuses.append(503)
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)
    writer.close()


async def wave(good_port, many, length, kind):
    provider = Provider(kind)
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, backlog=4096, limit=1 << 20)
    proxy = bed.Proxy(good_port, server.sockets[0].getsockname()[1], big=kind)
    good = asyncio.create_task(bed.good(proxy.port, 6, connections=4, rate=5))
    await asyncio.sleep(1)
    content = {"model": "big", "messages": [{"role": "user", "content": "x" * length}]}
    ask, statuses = json.dumps(content).encode(), []
    tasks = [asyncio.create_task(send(proxy.port, ask, statuses)) for _ in range(many)]
    async with asyncio.timeout(PATIENCE):
        while provider.asked + len(statuses) < many:
            await asyncio.sleep(0.05)
    provider.go_on.set()
    await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    times, bad = await good
    peak = proxy.memory()
    await proxy.stop()
    server.close()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(f"{many} bodies of {length / 1e6:.2f} MB ({kind}): {counts}; good {len(times)}, bad {len(bad)}; peak {peak:.0f} MB")
    faults = [f"{status} x {count}" for status, count in counts.items() if status not in (200, 503)]
    faults += [] if counts.get(200) else ["nobody was served"]
    faults += [f"good traffic: {bad[:3]}"] if bad else []
    faults += [f"{peak:.0f} MB"] if peak > MEMORY_MB else []
    return faults


async def main():
    good = await asyncio.start_server(bed.provider, "127.0.0.1", 0, backlog=4096)
    faults = [fault for one in WAVES for fault in await wave(good.sockets[0].getsockname()[1], *one)]
    if faults:
        sys.exit("FAILED: " + "; ".join(faults))


asyncio.run(main())
