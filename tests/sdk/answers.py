#!/usr/bin/env python3
"""Gives answers to the SDK of a dialect and checks that it takes them and hears what they say.

    answers.py {chat,responses,messages,gemini} FILE

FILE has one JSON object a line: `id`, `is_stream`, `body` (the bytes that a client of the
dialect would get) and `want` (text, calls, end, input and output tokens; null: not known).
Each answer, and each event of a stream, is validated strictly by the SDK's own models, unknown
members are faults but for those in EXTRA, and then a real client reads the body over a transport
without a network; streams are put together by the SDK's helper. Prints one line a fault, and at
the end one with the counts; exits 0 when there is no fault, else 1.
"""

import json
import sys
import typing
import warnings

import pydantic

# Members that the models do not know and we send all the same, and why.
EXTRA = {
    "reasoning_content": "thoughts in chat: OpenAI has no word, DeepSeek's is the one that clients read",
    "reasoning_details": "OpenRouter's word for sealed thoughts, sent back by its clients",
    "extra_content": "Google's word for the signature of a call in chat, which Gemini 3 wants back",
    "store": "in all of OpenAI's own responses, though not in the model",
}
PIECE = 997


class Mismatch(Exception):
    """The SDK heard something else than was said."""


def validator(kind):
    """Checks text by a model, or by that one of a union's whose `type` it has."""
    union, *_ = typing.get_args(kind) or [None]
    models = {}
    for model in typing.get_args(union):
        for word in typing.get_args(model.model_fields["type"].annotation):
            models[word] = pydantic.TypeAdapter(model)
    adapter = pydantic.TypeAdapter(kind)

    def check(text):
        of_type = models.get(json.loads(text)["type"]) if models else adapter
        if of_type is None:
            raise Mismatch(f"no model has the type of {text[:400]}")
        with warnings.catch_warnings():
            # Google's models take a word that they do not know, with a warning.
            warnings.simplefilter("error")
            return of_type.validate_json(text, strict=True)

    return check


def unknown(value, place=""):
    """Yields members that the models do not know."""
    if isinstance(value, pydantic.BaseModel):
        for name in value.model_extra or {}:
            if name not in EXTRA:
                yield f"{place}.{name}"
        for name in value.model_fields_set:
            yield from unknown(getattr(value, name, None), f"{place}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from unknown(item, f"{place}[]")


def arguments(text):
    """Arguments as the recording's reader has them: none where they are no object."""
    try:
        value = json.loads(text if text.strip() else "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def pieces(body):
    data = body.encode()
    return [data[at : at + PIECE] for at in range(0, len(data), PIECE)]


def events_of(body):
    for block in body.replace("\r\n", "\n").split("\n\n"):
        for line in block.split("\n"):
            if line.startswith("data: ") and line != "data: [DONE]":
                yield line[6:]


class Dialect:
    """One SDK: a client over a transport that answers with `self.body`."""

    def transport(self, package):
        def answer(_request):
            kind = "text/event-stream" if self.is_stream else "application/json"
            return package.Response(200, headers={"content-type": kind}, content=iter(pieces(self.body)))

        return package.MockTransport(answer)

    def hear(self, answer):
        self.body, self.is_stream = answer["body"], answer["is_stream"]
        texts = events_of(self.body) if self.is_stream else [self.body]
        check = self.check_event if self.is_stream else self.check_whole
        for text in texts:
            value = check(text)
            names = sorted(set(unknown(value)))
            if names:
                raise Mismatch(f"unknown members {names} in {text[:400]}")
        return self.streamed() if self.is_stream else self.whole()


def openai_client(dialect):
    import httpx
    import openai

    http = httpx.Client(transport=dialect.transport(httpx))
    return openai.OpenAI(base_url="http://sdk.invalid/v1", api_key="k", max_retries=0, http_client=http)


class Chat(Dialect):
    ENDS = {"stop": "stop", "length": "length", "tool_calls": "tools", "content_filter": "filter"}

    def __init__(self):
        from openai.types.chat import ChatCompletion, ChatCompletionChunk

        self.check_whole, self.check_event = validator(ChatCompletion), validator(ChatCompletionChunk)
        self.client = openai_client(self)
        self.ask = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

    def whole(self):
        return self.heard(self.client.chat.completions.create(**self.ask))

    def streamed(self):
        import openai

        options = {"include_usage": True}
        with self.client.chat.completions.stream(**self.ask, stream_options=options) as stream:
            try:
                stream.until_done()
                return self.heard(stream.get_final_completion())
            except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
                # The helper's way to say why it ended; what it has so far is whole.
                return self.heard(stream.current_completion_snapshot)

    def heard(self, answer):
        choice, usage = answer.choices[0], answer.usage
        message = choice.message
        calls = [[c.function.name, arguments(c.function.arguments)] for c in message.tool_calls or []]
        text = (message.content or "") + (message.refusal or "")
        # A part here, the reason to stop elsewhere.
        end = "filter" if message.refusal else self.ENDS.get(choice.finish_reason)
        return text, calls, end, usage.prompt_tokens, usage.completion_tokens


class Responses(Dialect):
    def __init__(self):
        from openai.types.responses import Response, ResponseStreamEvent

        self.check_whole, self.check_event = validator(Response), validator(ResponseStreamEvent)
        self.client = openai_client(self)
        self.ask = {"model": "m", "input": "x", "store": False}

    def whole(self):
        return self.heard(self.client.responses.create(**self.ask))

    def streamed(self):
        with self.client.responses.stream(**self.ask) as stream:
            last, text = None, ""
            for event in stream:
                last = event
                if event.type in ("response.output_text.delta", "response.refusal.delta"):
                    text += event.delta
            # The helper takes an incomplete response for none.
            final = stream.get_final_response() if last.type == "response.completed" else last.response
        heard = self.heard(final)
        if heard[0] != text:
            raise Mismatch(f"the deltas say {text!r}, the whole {heard[0]!r}")
        return heard

    def heard(self, answer):
        text, calls = "", []
        for item in answer.output:
            if item.type == "message":
                text += "".join(part.text if part.type == "output_text" else part.refusal for part in item.content)
            if item.type == "function_call":
                calls.append([item.name, arguments(item.arguments)])
        refuses = any(part.type == "refusal" for item in answer.output if item.type == "message" for part in item.content)
        # A part here, the reason to stop elsewhere.
        end = "filter" if refuses else "tools" if calls else "stop"
        if answer.status != "completed":
            reason = answer.incomplete_details and answer.incomplete_details.reason
            end = {"max_output_tokens": "length", "content_filter": "filter"}.get(reason)
        return text, calls, end, answer.usage.input_tokens, answer.usage.output_tokens


class Messages(Dialect):
    ENDS = {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "tool_use": "tools",
        "refusal": "filter",
    }

    def __init__(self):
        import anthropic
        import httpx2
        from anthropic.types import Message, RawMessageStreamEvent

        self.check_whole, self.check_event = validator(Message), validator(RawMessageStreamEvent)
        http = httpx2.Client(transport=self.transport(httpx2))
        self.client = anthropic.Anthropic(
            base_url="http://sdk.invalid", api_key="k", max_retries=0, http_client=http
        )
        self.ask = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}

    def whole(self):
        return self.heard(self.client.messages.create(**self.ask))

    def streamed(self):
        with self.client.messages.stream(**self.ask) as stream:
            return self.heard(stream.get_final_message())

    def heard(self, answer):
        text = "".join(block.text for block in answer.content if block.type == "text")
        calls = [[block.name, block.input] for block in answer.content if block.type == "tool_use"]
        usage = answer.usage
        # Anthropic counts what came from a cache beside the rest.
        cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
        return text, calls, self.ENDS.get(answer.stop_reason), usage.input_tokens + cached, usage.output_tokens


class Gemini(Dialect):
    ENDS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "filter", "PROHIBITED_CONTENT": "filter"}

    def __init__(self):
        import httpx
        from google import genai
        from google.genai import types

        self.check_whole = self.check_event = validator(types.GenerateContentResponse)
        options = types.HttpOptions(
            base_url="http://sdk.invalid", client_args={"transport": self.transport(httpx)}
        )
        self.client = genai.Client(api_key="k", http_options=options)
        self.ask = {"model": "m", "contents": "x"}

    def whole(self):
        return self.heard([self.client.models.generate_content(**self.ask)])

    def streamed(self):
        return self.heard(list(self.client.models.generate_content_stream(**self.ask)))

    def heard(self, answers):
        text, calls, end, usage = "", [], None, None
        for answer in answers:
            usage = answer.usage_metadata or usage
            for candidate in (answer.candidates or [])[:1]:
                end = candidate.finish_reason or end
                for part in (candidate.content and candidate.content.parts) or []:
                    if part.text and not part.thought:
                        text += part.text
                    if part.function_call:
                        calls.append([part.function_call.name, part.function_call.args or {}])
        end = self.ENDS.get(end.value if end else None)
        output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        return text, calls, "tools" if end == "stop" and calls else end, usage.prompt_token_count or 0, output


def compare(want, heard):
    text, calls, end, input_tokens, output_tokens = heard
    # Arguments that are no JSON object reach some dialects inside one.
    calls = [
        [name, None if was and was[1] is None else args]
        for (name, args), was in zip(calls, want["calls"] + [None] * len(calls))
    ]
    known = {"text": text, "calls": calls, "end": end, "input": input_tokens, "output": output_tokens}
    for name, value in known.items():
        if want[name] is not None and want[name] != value:
            raise Mismatch(f"{name} is {value!r}, wanted {want[name]!r}")


def main():
    dialects = {"chat": Chat, "responses": Responses, "messages": Messages, "gemini": Gemini}
    dialect = dialects[sys.argv[1]]()
    count = faults = 0
    with open(sys.argv[2], encoding="utf-8") as lines:
        for line in lines:
            answer = json.loads(line)
            count += 1
            try:
                compare(answer["want"], dialect.hear(answer))
            except Exception as fault:  # Whatever an SDK raises is a fault of the answer.
                faults += 1
                kind = "" if isinstance(fault, Mismatch) else f"{type(fault).__name__}: "
                print(f"FAILED {answer['id']} to {sys.argv[1]}: {kind}{fault}")
    print(f"{sys.argv[1]}: {count} answers, {faults} faults")
    return 1 if faults or not count else 0


if __name__ == "__main__":
    sys.exit(main())
