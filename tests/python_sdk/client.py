"""OpenAI's own Python client against a running attune. Usage: client.py BASE_URL."""

import sys

import openai

URL = sys.argv[1]
KEY = "sk-python-client-0123456789"
client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
QUESTION = [{"role": "user", "content": "Name three colours."}]


def chat(**more):
    settings = {"model": "attune", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    return client.chat.completions.create(**{**settings, **more})


def refused(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, f"{kind.__name__}: code {error.code!r}, not {code!r}"
        assert error.request_id, "an error without request id"
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


# Whole and streamed answers are the same text.
whole = chat(user="alice")
text = whole.choices[0].message.content
assert text and whole.usage.completion_tokens <= 24, whole
stream = list(chat(user="alice", stream=True, stream_options={"include_usage": True}))
assert stream[0].choices[0].delta.role == "assistant"
streamed = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
assert streamed == text, (streamed, text)
assert stream[-1].usage == whole.usage.model_copy(update={"prompt_tokens_details": stream[-1].usage.prompt_tokens_details})
assert stream[-1].usage.prompt_tokens_details.cached_tokens > 0, "the second time comes from the cache"

# Each user is answered with their own rows, and the answer says so.
raw = client.chat.completions.with_raw_response.create(
    model="attune", messages=QUESTION, max_tokens=4, temperature=0, user="bob"
)
assert raw.headers["x-attune-user-row"] == "user", dict(raw.headers)
assert raw.headers["x-attune-adapter-version"] in raw.parse().model_dump_json()
assert chat(user="nobody-knows-me").system_fingerprint.endswith("_generic")
base = client.models.list().data[1].id
assert chat(model=base, user="alice").system_fingerprint.endswith("_none")

# Several choices, log-probabilities, seeds.
several = chat(n=3, temperature=1, seed=7, logprobs=True, top_logprobs=2)
assert sorted(c.index for c in several.choices) == [0, 1, 2]
tokens = several.choices[0].logprobs.content
assert all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in tokens)
again = chat(n=3, temperature=1, seed=7, logprobs=True, top_logprobs=2)
assert [c.message.content for c in again.choices] == [c.message.content for c in several.choices]

# Models and legacy completions.
ids = [model.id for model in client.models.list()]
assert ids[0] == "attune" and any(i.startswith("attune@") for i in ids), ids
assert client.models.retrieve(ids[1]).owned_by == "attune"
legacy = client.completions.create(model=ids[1], prompt="Once upon a time", max_tokens=5)
assert legacy.object == "text_completion" and legacy.choices[0].text

# Errors arrive as the client's own classes.
refused(openai.BadRequestError, "decimal_above_max_value", lambda: chat(temperature=9))
refused(openai.BadRequestError, "integer_above_max_value", lambda: chat(n=1_000))
long = [{"role": "user", "content": "word " * 10_000}]
refused(openai.BadRequestError, "context_length_exceeded", lambda: chat(messages=long))
refused(openai.NotFoundError, "model_not_found", lambda: chat(model="gpt-4o"))
refused(openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("nothing"))
refused(openai.PermissionDeniedError, "insufficient_permissions", lambda: chat(user="mallory"))
stranger = openai.OpenAI(base_url=URL, api_key="sk-wrong-wrong-wrong-wrong", max_retries=0)
refused(openai.AuthenticationError, "invalid_api_key", lambda: stranger.models.list())
print("the Python client is content")
