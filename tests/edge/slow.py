"""2,000 slow clients beside good traffic: a third drip a head, a third a body, a third an answer.

Good traffic stays at 100 %, its p99 under twice the quiet one, and the proxy's memory under 300 MB.
The slow ones come back as soon as they are closed. Usage: slow.py [CLIENTS [SECONDS]]
"""

import asyncio
import json
import multiprocessing
import resource
import socket
import sys

import bed

CLIENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 30
MEMORY_MB = 300


async def slow(port, at, closed):
    """One client that is slow in its own way, over and over."""
    await asyncio.sleep(at * 3 / CLIENTS)
    loop = asyncio.get_running_loop()
    ask = json.dumps({"model": "big", "stream": at % 2 == 0, "messages": []}).encode()
    while True:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            try:
                await loop.sock_connect(sock, ("127.0.0.1", port))
                start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
                if at % 3 == 2:
                    await loop.sock_sendall(sock, start + b"content-length: %d\r\n\r\n%s" % (len(ask), ask))
                    while await loop.sock_recv(sock, 512):
                        await asyncio.sleep(1)
                piece = b"x: y\r\n" if at % 3 == 0 else b" "
                if at % 3 == 1:
                    start += b"content-length: 1000000\r\n\r\n"
                await loop.sock_sendall(sock, start)
                while True:
                    await loop.sock_sendall(sock, piece)
                    try:
                        async with asyncio.timeout(1):
                            if not await loop.sock_recv(sock, 4096):
                                break
                    except TimeoutError:
                        pass
            except OSError:
                pass
        closed[at % 3] += 1
        await asyncio.sleep(0.5)


def crowd(port, closed):
    async def run():
        await asyncio.gather(*(slow(port, at, closed) for at in range(CLIENTS)))

    asyncio.run(run())


def serve(ready):
    async def run():
        server = await asyncio.start_server(bed.provider, "127.0.0.1", 0)
        ready.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


async def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ready, closed = multiprocessing.Queue(), multiprocessing.Array("i", 3)
    standins = [multiprocessing.Process(target=serve, args=(ready,), daemon=True) for _ in range(2)]
    for standin in standins:
        standin.start()
    proxy = bed.Proxy(ready.get(), ready.get(), "limits: {connections_per_address: 5000, in_flight: 5000}\n")
    await bed.good(proxy.port, 3)
    quiet, bad_quiet = await bed.good(proxy.port, SECONDS / 2)
    crowded = multiprocessing.Process(target=crowd, args=(proxy.port, closed), daemon=True)
    crowded.start()
    await asyncio.sleep(5)
    busy, bad = await bed.good(proxy.port, SECONDS)
    peak = proxy.memory()
    crowded.kill()
    await proxy.stop()
    for standin in standins:
        standin.kill()
    if not busy:
        sys.exit(f"FAILED: no good call was answered: {bad[:3]}, peak memory {peak:.0f} MB")
    p99, p99_quiet = bed.at_percent(busy, 99), bed.at_percent(quiet, 99)
    print(f"good traffic, quiet:            {len(quiet)} good, {len(bad_quiet)} bad, p50 {bed.at_percent(quiet, 50):.1f} ms, p99 {p99_quiet:.1f} ms")
    print(f"beside {CLIENTS} slow clients:      {len(busy)} good, {len(bad)} bad, p50 {bed.at_percent(busy, 50):.1f} ms, p99 {p99:.1f} ms")
    print(f"slow clients closed:            {closed[0]} heads, {closed[1]} bodies, {closed[2]} readers")
    print(f"peak memory of the proxy:       {peak:.0f} MB")
    faults = [f"{len(bad)} good calls failed: {bad[:3]}"] if bad or bad_quiet else []
    faults += [f"p99 grew {p99 / p99_quiet:.1f} times"] if p99 >= 2 * p99_quiet else []
    faults += [f"memory is beyond {MEMORY_MB} MB"] if peak > MEMORY_MB else []
    faults += ["no slow head or body was closed"] if not (closed[0] and closed[1]) else []
    sys.exit("FAILED: " + "; ".join(faults) if faults else 0)


if __name__ == "__main__":
    asyncio.run(main())
