"""Has the program start, answer calls of each kind, be scraped and reloaded, and end: what `scripts/layout`
watches to lay its functions, and `scripts/profile` to learn its ways.

Providers, clients and the proxy are on loopback, on free ports. Each call must be answered with 200.
"""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile

CONFIG = """version: 1
threads: {threads}
listen: [{{address: "127.0.0.1:{port}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
cooldown: {{default: 0s}}
breaker: {{enabled: false}}
providers:
  plain: {{kind: openai, base_url: "http://127.0.0.1:{plain}/v1", credentials: [{{name: k, key: sk-layout-aaaaaaaa}}]}}
  safe:
    kind: openai
    base_url: "https://localhost:{safe}/v1"
    deny_private_ips: false
    tls: {{ca: "{certificate}"}}
    credentials: [{{name: k, key: sk-layout-bbbbbbbb}}]
  busy: {{kind: openai, base_url: "http://127.0.0.1:{busy}/v1", credentials: [{{name: k, key: sk-layout-cccccccc}}]}}
  claude: {{kind: anthropic, base_url: "http://127.0.0.1:{plain}", credentials: [{{name: k, key: sk-layout-dddddddd}}]}}
routes:
  plain: {{targets: [{{provider: plain, model: big}}]}}
  safe: {{targets: [{{provider: safe, model: big}}]}}
  moved: {{targets: [{{provider: busy, model: big, priority: 1}}, {{provider: plain, model: big, priority: 2}}]}}
  claude: {{targets: [{{provider: claude, model: big}}]}}
"""


def prose(size):
    """Makes text that JSON has to escape as often as it has to with people's."""
    said = "What was said there of the caf\u00e9 and of its guests stands on the seventh page, near the end of it.\n" \
        'Somebody read it aloud, and the others asked what "it" was, and whether all of them had to be there for it.\n'
    return (said * (size // len(said) + 1))[:size]


def picture(size):
    """Makes what pictures are sent as: text without end in which nothing is escaped."""
    return "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAE+" * (size // 28)


PROSE = prose(700)
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
CHAT = {"id": "1", "object": "chat.completion", "created": 1, "model": "big", "usage": USAGE,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": PROSE}, "finish_reason": "stop"}]}
MESSAGE = {"id": "1", "type": "message", "role": "assistant", "model": "big", "stop_reason": "end_turn",
           "content": [{"type": "text", "text": PROSE}], "usage": {"input_tokens": 10, "output_tokens": 20}}
BUSY = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}


def chat_events():
    for word in range(30):
        choice = {"index": 0, "delta": {"content": f"word {word} "}, "finish_reason": None}
        yield "data: %s\n\n" % json.dumps({"id": "1", "object": "chat.completion.chunk", "model": "big", "choices": [choice]})
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield "data: %s\n\n" % json.dumps({"id": "1", "object": "chat.completion.chunk", "model": "big", "choices": [choice]})
    yield "data: [DONE]\n\n"


def message_events():
    def event(kind, **rest):
        return "event: %s\ndata: %s\n\n" % (kind, json.dumps({"type": kind, **rest}))

    yield event("message_start", message={**MESSAGE, "content": [], "stop_reason": None})
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in range(30):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"word {word} "})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 20})
    yield event("message_stop")


async def head_and_body(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = [line for line in head.split("\r\n") if line.startswith("content-length:")]
    return head, await reader.readexactly(int(length[0][15:])) if length else b""


def provider(busy):
    """Makes what answers calls of both dialects, or refuses each of them."""

    async def serve(reader, writer):
        try:
            while True:
                head, body = await head_and_body(reader)
                is_message = "/messages" in head.split("\r\n")[0]
                if not busy and b'"stream": true' in body:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
                    for event in message_events() if is_message else chat_events():
                        writer.write(b"%x\r\n%s\r\n" % (len(event), event.encode()))
                        await writer.drain()
                        await asyncio.sleep(0)
                    writer.write(b"0\r\n\r\n")
                else:
                    said = json.dumps(BUSY if busy else MESSAGE if is_message else CHAT).encode()
                    status = "429 Too Many Requests" if busy else "200 OK"
                    writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(said)}\r\n\r\n"
                                 .encode() + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    return serve


async def call(port, path, body, times):
    """Sends the same call again and again on one connection; each must be answered with 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = json.dumps(body).encode() if body else b""
    request = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: localhost:{port}\r\nuser-agent: traffic/1\r\n" \
        f"accept: */*\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n".encode() + sent
    for _ in range(times):
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if " 200 " not in head.split("\r\n")[0]:
            sys.exit(f"scripts/traffic.py: {path} was answered with {head}")
        if "chunked" in head:
            while await reader.readuntil(b"\r\n") != b"0\r\n":
                await reader.readuntil(b"\r\n")
            await reader.readuntil(b"\r\n")
        else:
            await reader.readexactly(int(re.search(r"content-length: (\d+)", head)[1]))
    writer.close()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def life(command, environment, folder, threads, calls, connections, between):
    """Runs the program through one life; `between` is called before and after the calls."""
    certificate, key = os.path.join(folder, "one.pem"), os.path.join(folder, "one.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"], check=True, stderr=subprocess.DEVNULL)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    servers = [await asyncio.start_server(provider(busy), "127.0.0.1", 0, ssl=how)
               for busy, how in [(False, None), (False, tls), (True, None)]]
    plain, safe, busy = [server.sockets[0].getsockname()[1] for server in servers]
    port, admin = free_port(), free_port()
    config = os.path.join(folder, "traffic.yaml")
    with open(config, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(CONFIG.format(**locals()))
    with open(os.path.join(folder, "log"), "w") as log:
        process = subprocess.Popen([*command, "run", "-c", config], stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        for _ in range(600):
            await asyncio.sleep(0.1)
            try:
                await call(admin, "/readyz", None, 1)
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit(open(os.path.join(folder, "log")).read())
        await asyncio.sleep(3)
        between(process.pid)

        async def ask(path, body):
            await asyncio.gather(*[call(port, path, body, calls // connections) for _ in range(connections)])

        text, long = [{"messages": [{"role": "user", "content": prose(size)}]} for size in [900, 32_000]]
        seen = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture(250_000)}}]}]}
        for route in ["plain", "safe", "moved", "claude"]:
            for body in [text, long, {**text, "stream": True}]:
                await ask("/v1/chat/completions", {"model": route, **body})
        await ask("/v1/chat/completions", {"model": "plain", **seen})
        for body in [text, {**text, "stream": True}]:
            await ask("/v1/messages", {"model": "claude", "max_tokens": 100, **body})
        between(process.pid)
        for path in ["/metrics", "/readyz", "/v1/status"]:
            await call(admin, path, None, 3)
        process.send_signal(signal.SIGHUP)
        await asyncio.sleep(3)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def lives(command, calls, environment=None, connections=1, between=lambda pid: None):
    """Runs the program with one thread and with two, which have schedulers of their own: `calls` of each kind
    over so many connections, and `between` before and after them. Yields the folder that `{folder}` in
    `command` and `environment` stands for; it is gone with the next."""
    for threads in [1, 2]:
        with tempfile.TemporaryDirectory() as folder:
            words = [word.replace("{folder}", folder) for word in command]
            more = {name: text.replace("{folder}", folder) for name, text in (environment or {}).items()}
            asyncio.run(life(words, {**os.environ, **more}, folder, threads, calls, connections, between))
            yield folder
