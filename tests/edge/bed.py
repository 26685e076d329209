"""A proxy, a provider and good traffic, for the drills of this folder.

The provider and the good clients are one asyncio process each; the proxy is the program that
POINTSMAN_BIN names. Everything listens on loopback, on ports that the system chooses.
"""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time

# The longest that a model says at once: 128k tokens.
BIG = "x" * (512 << 10)


def whole(text):
    message = {"role": "assistant", "content": text}
    body = json.dumps({"id": "1", "object": "chat.completion", "model": "alpha",
                       "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def streamed(text):
    answer = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"]
    deltas = [{"content": text[at : at + 4096]} for at in range(0, len(text), 4096)]
    for delta, reason in [(delta, None) for delta in deltas] + [({}, "stop")]:
        event = {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        piece = b"data: " + json.dumps(event).encode() + b"\n\n"
        answer.append(b"%x\r\n%s\r\n" % (len(piece), piece))
    return b"".join(answer) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


# Made beforehand: what the provider costs must not show in the times.
ANSWERS = {(model, stream): (streamed if stream else whole)(text)
           for model, text in (("chat", "hello"), ("big", BIG)) for stream in (False, True)}


async def provider(reader, writer):
    """Answers chats after 10 ms, at length where the model is `big`, as events where asked to."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
            ask = json.loads(await reader.readexactly(length) or b"{}")
            await asyncio.sleep(0.01)
            writer.write(ANSWERS["big" if ask.get("model") == "big" else "chat", bool(ask.get("stream"))])
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        pass
    finally:
        writer.close()


class Proxy:
    """The program before that provider."""

    def __init__(self, good_port, big_port, more="", big="openai"):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "pointsman.yaml")
        ports = {"chat": good_port, "big": big_port}
        kinds = {"chat": "openai", "big": big}
        providers = "".join(
            f"  {name}: {{kind: {kinds[name]}, base_url: \"http://127.0.0.1:{port}/v1\", credentials: [{{key: {{env: KEY}}}}]}}\n"
            for name, port in ports.items()
        )
        targets = "".join(f"  {name}: {{targets: [{{provider: {name}, model: {name}}}]}}\n" for name in ports)
        with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(
                "version: 1\nthreads: 2\nlisten: [{address: \"127.0.0.1:0\", h2c: true}]\n"
                "admin: {address: \"127.0.0.1:0\"}\n"
                f"providers:\n{providers}routes:\n{targets}{more}"
            )
        env = {"KEY": "sk-0123456789", "XDG_RUNTIME_DIR": self.folder.name}
        program = os.path.abspath(os.environ["POINTSMAN_BIN"])
        self.process = subprocess.Popen([program, "run", "-c", path], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.port = None
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("msg") == "ready":
                self.port = int(said["data"].rsplit(":", 1)[1])
                break
        if self.port is None:
            raise SystemExit("the proxy did not start")
        self.drain = asyncio.get_running_loop().run_in_executor(None, self.process.stdout.read)

    def memory(self, field="VmHWM"):
        """Returns a figure of its memory in MB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))

    def cpu(self):
        """Returns the seconds that it has had on the processors."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        await self.drain
        self.folder.cleanup()


CHAT = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%s" % (len(CHAT), CHAT)


async def good(port, seconds, connections=20, rate=10):
    """Calls at an even pace on kept connections; returns the times of the good answers, and of bad ones what."""
    times, bad = [], []
    end = time.monotonic() + seconds

    async def one(at):
        await asyncio.sleep(at / connections / rate)
        reader = writer = None
        due = time.monotonic()
        while due < end:
            began = time.monotonic()
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(REQUEST)
                async with asyncio.timeout(10):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = next(int(l[15:]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:"))
                    await reader.readexactly(length)
                if head.startswith(b"HTTP/1.1 200"):
                    times.append(time.monotonic() - began)
                else:
                    bad.append(head.split(b"\r\n")[0].decode())
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as fault:
                bad.append(repr(fault))
                writer = None
            due += 1 / rate
            await asyncio.sleep(max(0, due - time.monotonic()))
        if writer is not None:
            writer.close()

    await asyncio.gather(*(one(at) for at in range(connections)))
    return sorted(times), bad


def at_percent(times, percent):
    return times[min(len(times) - 1, int(len(times) * percent / 100))] * 1000
