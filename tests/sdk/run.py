#!/usr/bin/env python3
"""Calls a server with the real OpenAI and Anthropic SDKs and checks what they make of it.

    run.py --base http://127.0.0.1:8080 --key KEY --route NAME [--text TEXT] [--proxy] [--only SDK]

Prints one line a check (`ok` or `FAILED`, name, reason) and exits 0 when every check passed, else 1.
`--base` is the bare origin: the OpenAI SDK gets it with `/v1`, the Anthropic SDK without, as their
own documentation wants it. `--text` is what every answer must say. `--proxy` adds what only
pointsman owes its clients: its response headers, its errors and the list of routes.
SDK retries are off, so that every fault shows.
"""

import argparse
import sys

PROXY_HEADERS = ("x-request-id", "x-used-provider", "x-used-model", "x-used-fallback", "x-attempts")
GREETING = "Hello from the stand-in, señor caller."


class Mismatch(Exception):
    """A check found something else than it wants."""


def want(condition, what):
    if not condition:
        raise Mismatch(what)


def want_equal(name, actual, expected):
    want(actual == expected, f"{name} is {actual!r}, wanted {expected!r}")


def want_headers(headers):
    missing = [name for name in PROXY_HEADERS if not headers.get(name)]
    want(not missing, f"response headers are missing: {', '.join(missing)}")


def openai_checks(args):
    import openai

    def client_with(key):
        return openai.OpenAI(base_url=args.base + "/v1", api_key=key, max_retries=0, timeout=30)

    client = client_with(args.key)
    chat = {"model": args.route, "messages": [{"role": "user", "content": "Say something."}]}

    def chat_plain():
        answer = client.chat.completions.create(**chat)
        want_equal("content", answer.choices[0].message.content, args.text)
        want_equal("finish_reason", answer.choices[0].finish_reason, "stop")
        want(answer.usage.total_tokens > 0, "usage is missing")

    def chat_stream():
        text, finish, usage = "", None, None
        options = {"include_usage": True}
        for chunk in client.chat.completions.create(**chat, stream=True, stream_options=options):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        want_equal("content", text, args.text)
        want_equal("finish_reason", finish, "stop")
        want(usage is not None and usage.total_tokens > 0, "usage is missing")

    def completion_plain():
        answer = client.completions.create(model=args.route, prompt="Say something.")
        want_equal("text", answer.choices[0].text, args.text)

    def completion_stream():
        stream = client.completions.create(model=args.route, prompt="Say something.", stream=True)
        want_equal("text", "".join(chunk.choices[0].text for chunk in stream), args.text)

    def embeddings_base64():
        # The SDK asks for base64 on its own and decodes it.
        answer = client.embeddings.create(model=args.route, input=["one", "two"])
        want_equal("vectors", [list(item.embedding) for item in answer.data], [[0.25, -0.5, 0.75, 1.0]] * 2)

    def embeddings_float():
        answer = client.embeddings.create(model=args.route, input="one", encoding_format="float")
        want_equal("vectors", [item.embedding for item in answer.data], [[0.25, -0.5, 0.75, 1.0]])

    def response_plain():
        answer = client.responses.create(model=args.route, input="Say something.", store=False)
        want_equal("output_text", answer.output_text, args.text)
        want_equal("status", answer.status, "completed")

    def response_stream():
        text, last = "", None
        for event in client.responses.create(
            model=args.route, input="Say something.", store=False, stream=True
        ):
            last = event
            if event.type == "response.output_text.delta":
                text += event.delta
        want_equal("text", text, args.text)
        want_equal("last event", last.type, "response.completed")
        want_equal("completed text", last.response.output_text, args.text)

    def response_stream_helper():
        # The helper keeps account of the events and fails where their order or numbers are wrong.
        with client.responses.stream(model=args.route, input="Say something.", store=False) as stream:
            stream.until_done()
            want_equal("final text", stream.get_final_response().output_text, args.text)

    def models():
        names = [model.id for model in client.models.list()]
        want(names, "the list of models is empty")
        if args.proxy:
            want(args.route in names, f"{args.route} is not among the models {names}")

    def proxy_headers():
        want_headers(client.chat.completions.with_raw_response.create(**chat).headers)

    def wrong_key():
        try:
            client_with("no-such-key").chat.completions.create(**chat)
        except openai.AuthenticationError as fault:
            want_equal("code", fault.code, "invalid_api_key")
        else:
            raise Mismatch("a wrong key was accepted")

    def unknown_model():
        try:
            client.chat.completions.create(**{**chat, "model": "no-such-route-here"})
        except openai.NotFoundError as fault:
            want_equal("code", fault.code, "model_not_found")
        else:
            raise Mismatch("an unknown model was accepted")

    checks = [
        chat_plain,
        chat_stream,
        completion_plain,
        completion_stream,
        embeddings_base64,
        embeddings_float,
        response_plain,
        response_stream,
        response_stream_helper,
        models,
    ]
    return checks + ([proxy_headers, wrong_key, unknown_model] if args.proxy else [])


def anthropic_checks(args):
    import anthropic

    def client_with(key):
        return anthropic.Anthropic(base_url=args.base, api_key=key, max_retries=0, timeout=30)

    client = client_with(args.key)
    message = {
        "model": args.route,
        "max_tokens": 256,
        "messages": [{"role": "user", "content": "Say something."}],
    }

    def message_plain():
        answer = client.messages.create(**message)
        want_equal("text", answer.content[0].text, args.text)
        want_equal("stop_reason", answer.stop_reason, "end_turn")
        want(answer.usage.output_tokens > 0, "usage is missing")

    def message_stream():
        with client.messages.stream(**message) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        want_equal("text", text, args.text)
        want_equal("final text", final.content[0].text, args.text)
        want_equal("stop_reason", final.stop_reason, "end_turn")

    def message_events():
        names = [event.type for event in client.messages.create(**message, stream=True)]
        want_equal("first event", names[0], "message_start")
        want_equal("last event", names[-1], "message_stop")

    def count_tokens():
        counted = client.messages.count_tokens(model=args.route, messages=message["messages"])
        want(counted.input_tokens > 0, f"input_tokens is {counted.input_tokens}")

    def proxy_headers():
        want_headers(client.messages.with_raw_response.create(**message).headers)

    def wrong_key():
        try:
            client_with("no-such-key").messages.create(**message)
        except anthropic.AuthenticationError:
            return
        raise Mismatch("a wrong key was accepted")

    def unknown_model():
        try:
            client.messages.create(**{**message, "model": "no-such-route-here"})
        except anthropic.NotFoundError:
            return
        raise Mismatch("an unknown model was accepted")

    checks = [message_plain, message_stream, message_events, count_tokens]
    return checks + ([proxy_headers, wrong_key, unknown_model] if args.proxy else [])


def passed(sdk, check):
    name = f"{sdk} {check.__name__.replace('_', ' ')}"
    try:
        check()
    except Exception as fault:  # Whatever an SDK raises is a failed check, not the end of the run.
        reason = str(fault) if isinstance(fault, Mismatch) else f"{type(fault).__name__}: {fault}"
        print(f"FAILED {name}: {reason}", flush=True)
        return False
    print(f"ok     {name}", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="origin of the server, without /v1")
    parser.add_argument("--key", required=True, help="client key")
    parser.add_argument("--route", required=True, help="what to put into `model`")
    parser.add_argument("--text", default=GREETING, help="what every answer must say")
    parser.add_argument("--proxy", action="store_true", help="also check what pointsman adds")
    parser.add_argument("--only", choices=["openai", "anthropic"], help="leave the other SDK out")
    args = parser.parse_args()
    args.base = args.base.rstrip("/")

    suites = {"openai": openai_checks, "anthropic": anthropic_checks}
    results = [
        passed(sdk, check)
        for sdk, suite in suites.items()
        if args.only in (None, sdk)
        for check in suite(args)
    ]
    print(f"{sum(results)} of {len(results)} checks passed", flush=True)
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
