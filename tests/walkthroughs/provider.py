#!/usr/bin/env python3
"""A provider to walk with: speaks OpenAI's chat calls on a free port of loopback, and does as it is told.

    provider.py PORTFILE [NAME]

It writes its port to PORTFILE when it listens. Python's own library and nothing else.

POST /_do     {"status": 429, "retry_after": 30}   answers this status from now on
              {"keys": ["a", "b"]}                 takes these keys and answers 401 to any other; null takes all
              {"words": 40, "pause": 0.05}         length of an answer, seconds between the words of a stream
              {"wait": 0.5}                        seconds before an answer begins
              {"status": 200}                      answers well again
GET  /_seen   {"answered": N, "by_key": {...}, "by_status": {...}, "streaming": N}
"""

import http.server
import json
import os
import sys
import threading
import time

NAME = sys.argv[2] if len(sys.argv) > 2 else "provider"
LOCK = threading.Lock()
WILL = {"status": 200, "retry_after": None, "keys": None, "words": 12, "pause": 0.0, "wait": 0.0}
SEEN = {"answered": 0, "by_key": {}, "by_status": {}, "streaming": 0}


def text(count):
    """The same words at every provider, so that a stream that breaks can be taken up."""
    return [f"word{number} " for number in range(1, count + 1)]


class Provider(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Says nothing."""

    def reply(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-ratelimit-remaining-requests", "59")
        self.send_header("x-ratelimit-remaining-tokens", "9000")
        for name, content in headers:
            self.send_header(name, content)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def do_GET(self):
        if self.path == "/_seen":
            with LOCK:
                return self.reply(200, SEEN)
        if self.path.endswith("/models"):
            return self.reply(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        return self.reply(404, {"error": {"message": "no such path", "type": "invalid_request_error"}})

    def do_POST(self):
        asked = json.loads(self.body() or b"{}")
        if self.path == "/_do":
            with LOCK:
                WILL.update(asked)
                return self.reply(200, WILL)
        key = self.headers.get("authorization", "").removeprefix("Bearer ")
        with LOCK:
            will = dict(WILL)
            status = will["status"] if will["keys"] is None or key in will["keys"] else 401
            SEEN["answered"] += 1
            for table, entry in (("by_key", key), ("by_status", str(status))):
                SEEN[table][entry] = SEEN[table].get(entry, 0) + 1
        time.sleep(will["wait"])
        if status != 200:
            headers = [("retry-after", str(will["retry_after"]))] if will["retry_after"] else []
            code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status, "server_error")
            fault = {"message": f"{NAME} says {status}", "type": code, "code": code}
            return self.reply(status, {"error": fault}, headers)
        if asked.get("stream"):
            return self.stream(asked, will)
        words = text(will["words"])
        message = {"role": "assistant", "content": "".join(words)}
        return self.reply(200, {
            "id": f"chatcmpl-{NAME}", "object": "chat.completion", "created": 1, "model": asked.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": len(words), "total_tokens": 7 + len(words)},
        })

    def stream(self, asked, will):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        with LOCK:
            SEEN["streaming"] += 1
        try:
            self.event(asked, {"role": "assistant", "content": ""})
            for word in text(will["words"]):
                self.event(asked, {"content": word})
                time.sleep(will["pause"])
            self.event(asked, {}, "stop")
            self.chunk(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        finally:
            with LOCK:
                SEEN["streaming"] -= 1

    def event(self, asked, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = {"id": f"chatcmpl-{NAME}", "object": "chat.completion.chunk", "created": 1,
                 "model": asked.get("model"), "choices": [choice]}
        self.chunk(b"data: " + json.dumps(event).encode() + b"\n\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A caller that left is no news."""


def main():
    server = Server(("127.0.0.1", 0), Provider)
    with open(sys.argv[1] + ".next", "w", encoding="ascii") as file:
        file.write(str(server.server_address[1]))
    os.rename(sys.argv[1] + ".next", sys.argv[1])
    server.serve_forever()


if __name__ == "__main__":
    main()
