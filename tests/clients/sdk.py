#!/usr/bin/env python3
"""Calls a server with one real SDK and checks what it makes of the answers.

    sdk.py CLIENT STEPS ORIGIN KEY MODEL TEXT

CLIENT is openai-chat, openai-responses, anthropic, google-genai or litellm. STEPS is a comma-separated
list of plain, streamed, tool, tool_whole, models and count. TEXT is what every answer must say. Exits 0 when every step
went well; else the last line says why not. Retries of the SDKs are off, so that every fault shows.
"""

import json
import sys

ASK = "Say hello."
WEATHER = {
    "name": "weather",
    "description": "Tells the weather.",
    "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# What the stand-in calls.
CALL = ("weather", {"city": "Málaga"})


def want_equal(name, actual, expected):
    if actual != expected:
        raise SystemExit(f"{name} is {actual!r}, wanted {expected!r}")


def want(condition, what):
    if not condition:
        raise SystemExit(what)


def openai_chat(origin, key, model, text):
    import openai

    client = openai.OpenAI(base_url=origin + "/v1", api_key=key, max_retries=0, timeout=30)
    asked = {"model": model, "messages": [{"role": "user", "content": ASK}]}

    def plain():
        answer = client.chat.completions.create(**asked)
        want_equal("content", answer.choices[0].message.content, text)
        want_equal("finish_reason", answer.choices[0].finish_reason, "stop")
        want(answer.usage and answer.usage.total_tokens > 0, "usage is missing")

    def streamed():
        said, finish, usage = "", None, None
        stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                said += choice.delta.content or ""
                finish = choice.finish_reason or finish
        want_equal("content", said, text)
        want_equal("finish_reason", finish, "stop")
        want(usage and usage.total_tokens > 0, "usage is missing")

    def tool():
        function = {"name": WEATHER["name"], "parameters": WEATHER["schema"]}
        with client.chat.completions.stream(**asked, tools=[{"type": "function", "function": function}]) as stream:
            stream.until_done()
            choice = stream.get_final_completion().choices[0]
        want_equal("finish_reason", choice.finish_reason, "tool_calls")
        check_call(choice.message.tool_calls[0])

    def tool_whole():
        # The mock of LiteLLM's proxy ends for `stop` whatever it calls.
        function = {"name": WEATHER["name"], "parameters": WEATHER["schema"]}
        answer = client.chat.completions.create(**asked, tools=[{"type": "function", "function": function}])
        check_call(answer.choices[0].message.tool_calls[0])

    def check_call(call):
        want(call.id, "the call has no id")
        want_equal("call", (call.function.name, json.loads(call.function.arguments)), CALL)

    def models():
        want(model in [entry.id for entry in client.models.list()], f"{model} is not in the list")
        want_equal("id", client.models.retrieve(model).id, model)

    return locals()


def openai_responses(origin, key, model, text):
    import openai

    client = openai.OpenAI(base_url=origin + "/v1", api_key=key, max_retries=0, timeout=30)
    asked = {"model": model, "input": ASK, "store": False}

    def plain():
        answer = client.responses.create(**asked)
        want_equal("output_text", answer.output_text, text)
        want_equal("status", answer.status, "completed")

    def streamed():
        # The helper keeps account of the events and fails where their order or numbers are wrong.
        with client.responses.stream(**asked) as stream:
            stream.until_done()
            want_equal("final text", stream.get_final_response().output_text, text)

    def tool():
        function = {"type": "function", "name": WEATHER["name"], "parameters": WEATHER["schema"], "strict": False}
        with client.responses.stream(**asked, tools=[function]) as stream:
            stream.until_done()
            output = stream.get_final_response().output
        calls = [item for item in output if item.type == "function_call"]
        want(calls and calls[0].call_id, f"no call with an id in {output!r}")
        want_equal("call", (calls[0].name, json.loads(calls[0].arguments)), CALL)

    return locals()


def anthropic(origin, key, model, text):
    import anthropic as sdk

    client = sdk.Anthropic(base_url=origin, api_key=key, max_retries=0, timeout=30)
    asked = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": ASK}]}

    def plain():
        answer = client.messages.create(**asked)
        want_equal("content", [block.text for block in answer.content], [text])
        want_equal("stop_reason", answer.stop_reason, "end_turn")
        want(answer.usage.output_tokens > 0, "usage is missing")

    def streamed():
        with client.messages.stream(**asked) as stream:
            want_equal("content", "".join(stream.text_stream), text)
            answer = stream.get_final_message()
        want_equal("stop_reason", answer.stop_reason, "end_turn")
        want(answer.usage.output_tokens > 0, "usage is missing")

    def tool():
        tools = [{"name": WEATHER["name"], "input_schema": WEATHER["schema"]}]
        with client.messages.stream(**asked, tools=tools) as stream:
            answer = stream.get_final_message()
        want_equal("stop_reason", answer.stop_reason, "tool_use")
        block = answer.content[-1]
        want(block.id, "the call has no id")
        want_equal("call", (block.name, block.input), CALL)

    def models():
        page = client.models.list()
        want(model in [entry.id for entry in page], f"{model} is not in the list")
        entry = client.models.retrieve(model)
        want_equal("id", entry.id, model)
        want_equal("type", entry.type, "model")
        want(entry.display_name, "display_name is missing")
        want(getattr(entry.created_at, "year", None), f"created_at is {entry.created_at!r}")
        want_equal("last_id", page.last_id, page.data[-1].id)

    def count():
        asked_to_count = {name: asked[name] for name in ("model", "messages")}
        want(client.messages.count_tokens(**asked_to_count).input_tokens > 0, "no tokens were counted")

    return locals()


def google_genai(origin, key, model, text):
    from google import genai
    from google.genai import types

    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=origin, timeout=30_000))

    def plain():
        answer = client.models.generate_content(model=model, contents=ASK)
        want_equal("text", answer.text, text)
        want_equal("finish_reason", answer.candidates[0].finish_reason.name, "STOP")
        want(answer.usage_metadata.total_token_count > 0, "usage is missing")

    def streamed():
        chunks = list(client.models.generate_content_stream(model=model, contents=ASK))
        want_equal("text", "".join(chunk.text or "" for chunk in chunks), text)

    def tool():
        function = types.FunctionDeclaration(name=WEATHER["name"], parameters_json_schema=WEATHER["schema"])
        config = types.GenerateContentConfig(
            tools=[types.Tool(function_declarations=[function])],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        )
        chunks = client.models.generate_content_stream(model=model, contents=ASK, config=config)
        calls = [call for chunk in chunks for call in chunk.function_calls or []]
        want_equal("calls", [(call.name, call.args) for call in calls], [CALL])

    def models():
        names = [entry.name for entry in client.models.list()]
        want(any(name in (model, "models/" + model) for name in names), f"{model} is not in {names}")

    return locals()


def litellm(origin, key, model, text):
    import litellm as sdk

    sdk.telemetry = False
    asked = {
        "model": "openai/" + model,
        "api_base": origin + "/v1",
        "api_key": key,
        "messages": [{"role": "user", "content": ASK}],
        "num_retries": 0,
        "timeout": 30,
    }

    def plain():
        answer = sdk.completion(**asked)
        want_equal("content", answer.choices[0].message.content, text)
        want_equal("finish_reason", answer.choices[0].finish_reason, "stop")
        want(answer.usage.total_tokens > 0, "usage is missing")

    def streamed():
        chunks = list(sdk.completion(**asked, stream=True, stream_options={"include_usage": True}))
        whole = sdk.stream_chunk_builder(chunks)
        want_equal("content", whole.choices[0].message.content, text)
        want_equal("finish_reason", whole.choices[0].finish_reason, "stop")

    def tool():
        function = {"name": WEATHER["name"], "parameters": WEATHER["schema"]}
        chunks = list(sdk.completion(**asked, tools=[{"type": "function", "function": function}], stream=True))
        choice = sdk.stream_chunk_builder(chunks).choices[0]
        want_equal("finish_reason", choice.finish_reason, "tool_calls")
        call = choice.message.tool_calls[0]
        want(call.id, "the call has no id")
        want_equal("call", (call.function.name, json.loads(call.function.arguments)), CALL)

    return locals()


def main():
    client, steps, origin, key, model, text = sys.argv[1:]
    makers = {
        "openai-chat": openai_chat,
        "openai-responses": openai_responses,
        "anthropic": anthropic,
        "google-genai": google_genai,
        "litellm": litellm,
    }
    doings = makers[client](origin, key, model, text)
    for step in steps.split(","):
        try:
            doings[step]()
        except SystemExit as fault:
            raise SystemExit(f"{step}: {fault}") from None
        except Exception as fault:  # the SDKs have no common base
            raise SystemExit(f"{step}: {type(fault).__name__}: {fault}") from None


if __name__ == "__main__":
    main()
