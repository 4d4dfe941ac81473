import json

from hypothesis import given
from hypothesis import strategies as st

from prefkit.scoring.judge.calls import Call
from prefkit.scoring.judge.wire import request_body, worst_case

TEXTS = st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=4)


@given(TEXTS, st.integers(1, 5_000))
def test_worst_case_holds_a_token_for_every_byte_that_is_sent(texts: list[str], limit: int):
    call = Call("c", [{"role": "user", "content": text} for text in texts], limit)
    sent = request_body(call, "judge", 0.0)["messages"]
    assert isinstance(sent, list)
    written = [json.dumps(message, ensure_ascii=False).encode() for message in sent]  # lone surrogates would raise here
    contents = sum(len(json.loads(message)["content"].encode()) for message in written)
    worst = worst_case(call)
    assert worst.input >= contents + 16 * len(texts)
    assert worst.output == limit


def test_request_with_a_schema_asks_for_it_strictly():
    schema = {"type": "object", "properties": {}}
    call = Call("c", [{"role": "user", "content": "x"}], 5, schema, seed=7)
    body = request_body(call, "judge", 0.5, "max_completion_tokens")
    assert body == {
        "model": "judge",
        "messages": [{"role": "user", "content": "x"}],
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}},
    }
    assert worst_case(call).input > worst_case(Call("c", call.messages, 5)).input
