"""HTTP/2 floods against h2c: while each lasts, good calls over HTTP/1.1 must be answered within a second,
and the proxy's memory stays under 300 MB. Frames are made by `h2` and `hyperframe` (PyPI)."""

import asyncio
import struct
import sys
import time

import bed
import h2.config
import h2.connection
import h2.errors
import h2.settings
import hpack

MEMORY_MB = 300
HEADERS = [(":method", "POST"), (":path", "/v1/chat/completions"), (":scheme", "http"), (":authority", "a")]
GET = [(":method", "GET"), (":path", "/v1/models"), (":scheme", "http"), (":authority", "a")]


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def opened(settings=None):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    if settings:
        connection.update_settings(settings)
    connection.initiate_connection()
    return connection.data_to_send()


def block(headers):
    return hpack.Encoder().encode(headers)


def rapid_reset():
    yield opened()
    for stream in range(1, 60001, 2):
        yield frame(1, 0x5, stream, block(GET)) + frame(3, 0, stream, struct.pack(">I", 8))


def continuations():
    yield opened() + frame(1, 0x1, 1, block(GET))
    for _ in range(30000):
        yield frame(9, 0, 1, b"\x40\x01x\x7f\x81\x07" + b"y" * 1032)


def endless_continuations():
    yield opened() + frame(1, 0x0, 1, block(GET)[:3])
    for _ in range(100000):
        yield frame(9, 0, 1, b"")


def empty_data():
    yield opened() + frame(1, 0x4, 1, block(HEADERS))
    for _ in range(100000):
        yield frame(0, 0, 1)


def settings():
    yield opened()
    for value in range(100000):
        yield frame(4, 0, 0, struct.pack(">HI", 4, 65535 + value % 2))


def pings():
    yield opened()
    for _ in range(100000):
        yield frame(6, 0, 0, b"12345678")


def made_you_reset():
    yield opened()
    for stream in range(1, 40001, 2):
        yield frame(1, 0x4, stream, block(HEADERS)) + frame(8, 0, stream, struct.pack(">I", 0))


def priorities():
    yield opened()
    for stream in range(1, 200001, 2):
        yield frame(2, 0, stream, struct.pack(">IB", 0, 16))


def many_streams():
    yield opened()
    for stream in range(1, 20001, 2):
        yield frame(1, 0x4, stream, block(HEADERS)) + frame(0, 0, stream, b"{")


def tiny_windows():
    big = b'{"model":"big","stream":true,"messages":[]}'
    yield opened({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1})
    for stream in range(1, 201, 2):
        yield frame(1, 0x4, stream, block(HEADERS)) + frame(0, 0x1, stream, big)
    for _ in range(50):
        for stream in range(1, 201, 2):
            yield frame(8, 0, stream, struct.pack(">I", 1))
        yield None


async def flood(port, frames, reads):
    """Sends a flood, at most 8 s of it; tells how many frames were taken and how it ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def listen():
        if reads:
            while await reader.read(65536):
                pass
        else:
            await asyncio.sleep(3600)

    listening = asyncio.create_task(listen())
    sent, ended = 0, "taken whole"
    try:
        async with asyncio.timeout(8):
            for piece in frames:
                if listening.done() or writer.transport.is_closing():
                    ended = "closed"
                    break
                if piece is None:
                    await asyncio.sleep(0.02)
                    continue
                writer.write(piece)
                sent += 1
                if sent % 50 == 0:
                    await writer.drain()
                    await asyncio.sleep(0)
            await writer.drain()
    except TimeoutError:
        ended = "not taken any more"
    except OSError:
        ended = "closed"
    await asyncio.sleep(0.3)
    listening.cancel()
    writer.transport.abort()
    return sent, ended


async def main():
    server = await asyncio.start_server(bed.provider, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = bed.Proxy(port, port)
    await bed.good(proxy.port, 2, connections=2)
    faults = []
    probes = [rapid_reset, continuations, endless_continuations, empty_data, settings, pings, made_you_reset,
              priorities, many_streams, tiny_windows]
    for probe in probes:
        for reads in (True, False):
            began, before = time.monotonic(), proxy.cpu()
            calling = asyncio.create_task(bed.good(proxy.port, 2, connections=2, rate=20))
            sent, ended = await flood(proxy.port, probe(), reads)
            times, bad = await calling
            span, spent = time.monotonic() - began, proxy.cpu() - before
            name = f"{probe.__name__.replace('_', ' ')}, {'reading' if reads else 'not reading'}"
            print(f"{name:36} {sent:7} frames, {ended:18} {spent:5.2f} s CPU in {span:4.1f} s, slowest good call {times[-1] * 1000 if times else -1:6.1f} ms, {proxy.memory('VmRSS'):4.0f} MB", flush=True)
            if bad or not times or times[-1] > 1:
                faults.append(f"{name}: {len(bad)} good calls failed {bad[:2]}, slowest {times[-1:]}")
    if proxy.process.poll() is not None:
        faults.append("the proxy is gone")
    peak = proxy.memory()
    print(f"peak memory of the proxy: {peak:.0f} MB")
    if peak > MEMORY_MB:
        faults.append(f"memory is beyond {MEMORY_MB} MB")
    await proxy.stop()
    server.close()
    sys.exit("FAILED: " + "; ".join(faults) if faults else 0)


if __name__ == "__main__":
    asyncio.run(main())
