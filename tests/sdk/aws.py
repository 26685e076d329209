#!/usr/bin/env python3
"""What AWS's own SDK makes of us, and moto, which stands in for AWS's services.

    aws.py ask ORIGIN MODEL TEXT CALL   boto3 calls a server of Bedrock's dialect, whole and streamed
    aws.py judge FILE                   botocore judges requests that were sent to Bedrock
    aws.py serve                        moto on loopback; prints its origin, ends with its input

CALL is JSON: [name, arguments] of the tool that is called, or null. FILE is JSON: a list of objects with
method, path, headers, body, and secret (the key that it was signed with). Of each, path and body
must be those of an operation (Converse, ConverseStream) as botocore's validators want them, and the
signature must be the one that botocore makes. Exits with 0 when all is well; else the last line says why not.
"""

import base64
import json
import os
import sys

# Nothing of the developer's own is read.
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true")

KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+0123456789==")


def want_equal(name, actual, expected):
    if actual != expected:
        raise SystemExit(f"{name} is {actual!r}, wanted {expected!r}")


def ask(origin, model, text, call):
    import boto3
    from botocore.config import Config

    identity, secret, token = KEYS
    client = boto3.client(
        "bedrock-runtime",
        region_name="eu-central-1",
        endpoint_url=origin,
        aws_access_key_id=identity,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    asked = {
        "modelId": model,
        "messages": [{"role": "user", "content": [{"text": "Say hello."}]}],
        "inferenceConfig": {"maxTokens": 50},
    }
    calls = json.loads(call)
    stop = "tool_use" if calls else "end_turn"

    answer = client.converse(**asked)
    blocks = answer["output"]["message"]["content"]
    want_equal("text", "".join(block.get("text", "") for block in blocks), text)
    used = [[block["toolUse"]["name"], block["toolUse"]["input"]] for block in blocks if "toolUse" in block]
    want_equal("calls", used, [calls] if calls else [])
    want_equal("stopReason", answer["stopReason"], stop)
    want_equal("usage", (answer["usage"]["inputTokens"], answer["usage"]["outputTokens"]), (11, 7))

    said, named, given, ended, usage = "", [], "", None, None
    for event in client.converse_stream(**asked)["stream"]:
        (kind, told), = event.items()
        if kind == "contentBlockStart":
            named += [told["start"]["toolUse"]["name"]] if "toolUse" in told.get("start", {}) else []
        elif kind == "contentBlockDelta":
            said += told["delta"].get("text", "")
            given += told["delta"].get("toolUse", {}).get("input", "")
        elif kind == "messageStop":
            ended = told["stopReason"]
        elif kind == "metadata":
            usage = (told["usage"]["inputTokens"], told["usage"]["outputTokens"])
    want_equal("streamed text", said, text)
    want_equal("streamed call", [[name, json.loads(given)] for name in named], [calls] if calls else [])
    want_equal("streamed stopReason", ended, stop)
    want_equal("streamed usage", usage, (11, 7))


def judge(file):
    import botocore.session

    model = botocore.session.Session().get_service_model("bedrock-runtime")
    with open(file, encoding="utf-8") as opened:
        requests = json.load(opened)
    for number, request in enumerate(requests):
        request["body"] = request["body"].encode()
        faults = [validity(model, request), signature(request)]
        for fault in filter(None, faults):
            raise SystemExit(f"request {number}, {request['path']}: {fault}\n{request['body'].decode()}")
    print(f"{len(requests)} requests")


def validity(model, request):
    """Says what botocore has against a body, and against the path that leads to it."""
    from botocore.validate import ParamValidator
    from urllib.parse import quote, unquote

    if not request["path"].startswith("/model/"):
        return None
    escaped, verb = request["path"].removeprefix("/model/").rsplit("/", 1)
    name = {"converse": "Converse", "converse-stream": "ConverseStream"}.get(verb)
    if name is None:
        return f"{verb} is no operation"
    # As its serializer escapes a member of a path.
    if escaped != quote(unquote(escaped), safe="-_.~"):
        return "the model is not escaped as botocore does it"
    shape = model.operation_model(name).input_shape
    asked = with_bytes(json.loads(request["body"]), shape)
    report = ParamValidator().validate(asked | {"modelId": unquote(escaped)}, shape)
    return report.generate_report() if report.has_errors() else None


def with_bytes(value, shape):
    """Turns what JSON has as base64 into what the SDK is given."""
    if shape.type_name == "structure" and isinstance(value, dict) and not getattr(shape, "is_document_type", False):
        of = shape.members
        return {name: with_bytes(inner, of[name]) if name in of else inner for name, inner in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [with_bytes(inner, shape.member) for inner in value]
    if shape.type_name == "blob" and isinstance(value, str):
        return base64.b64decode(value, validate=True)
    return value


def signature(request):
    """Says how a signature differs from the one that botocore makes of the same."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    headers = {name.lower(): value for name, value in request["headers"]}
    scheme, _, rest = headers["authorization"].partition(" ")
    want_equal("scheme", scheme, "AWS4-HMAC-SHA256")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    identity, _, region, service, _ = parts["Credential"].split("/")
    signed = {name: headers[name] for name in parts["SignedHeaders"].split(";")}
    for name in ("host", "x-amz-date"):
        if name not in signed:
            return f"{name} is not signed"
    url = f"http://{headers['host']}{request['path']}"
    made = AWSRequest(method=request["method"], url=url, data=request["body"], headers=signed)
    made.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(Credentials(identity, request["secret"]), service, region)
    canonical = auth.canonical_request(made)
    theirs = auth.signature(auth.string_to_sign(made, canonical), made)
    return None if theirs == parts["Signature"] else f"the signature is not {theirs} of\n{canonical}"


def serve():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    {"ask": ask, "judge": judge, "serve": serve}[sys.argv[1]](*sys.argv[2:])
