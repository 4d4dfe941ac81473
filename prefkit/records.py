"""The fact tables: what prefkit stores, on one page.

A fact is one row, append only, keyed by what it is about. Every table has `id` (a hash of the key), `batch_id` (the
time-ordered UUIDv7 of the commit that brought the row) and `row_hash` (a checksum of every other column but
`batch_id`). Of rows with one key the store counts exactly one, the rest are `superseded` (see `prefkit.store.facts`).

A row that failed is a row: `failure` names the kind, `transient` says whether the next build tries again, `attempt`
counts the tries. Prompts and completions are lists of `{role, content}` messages.
"""

from dataclasses import dataclass

import pyarrow as pa

ID = pa.binary(16)
CONFIG = pa.int64()
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

_FAILURE = [("failure", pa.string()), ("detail", pa.string()), ("transient", pa.bool_()), ("attempt", pa.int32())]
_SPENT = [("input_tokens", pa.int64()), ("output_tokens", pa.int64()), ("cost", pa.float64())]
_STAMP = [("batch_id", ID), ("row_hash", pa.uint64())]


@dataclass(frozen=True, slots=True)
class FactTable:
    """A table of facts: its name, the columns that make a row's key, and its Arrow schema."""

    name: str
    key: tuple[str, ...]
    schema: pa.Schema


PROMPTS = FactTable(
    "prompts",
    ("id",),
    pa.schema([("id", ID), ("messages", MESSAGES), *_STAMP]),
)
"""`id` is the prompt id: the content id of the messages."""

TASKS = FactTable(
    "tasks",
    ("id",),
    pa.schema(
        [
            ("id", ID),
            ("prompt_id", ID),
            ("answer", pa.string()),
            ("source", pa.string()),
            ("split", pa.string()),
            ("metadata", pa.string()),  # canonical JSON of an object
            *_STAMP,
        ]
    ),
)
"""What a build reads. A corrected gold answer is a new task of the same prompt."""

IMPORTED_POLICY = "imported:"
"""What the policy id of an imported completion begins with; the model's name follows."""

COMPLETIONS = FactTable(
    "completions",
    ("prompt_id", "policy_id", "policy_version", "sampler_id", "sample_index"),
    pa.schema(
        [
            ("id", ID),
            ("prompt_id", ID),
            ("policy_id", pa.string()),  # imported: IMPORTED_POLICY and the model's name
            ("policy_version", pa.int64()),  # the optimizer step whose weights these are; 0 for a fixed policy
            ("sampler_id", CONFIG),  # imported: hash of the completion's content
            ("sample_index", pa.int32()),  # imported: which of the samples of that content
            ("completion", MESSAGES),
            ("token_ids", pa.list_(pa.int32())),
            ("sampling_logprobs", pa.list_(pa.float32())),  # per token, after temperature, top-p and top-k
            ("behavior_logprobs", pa.list_(pa.float32())),  # per token, the sampler's own weights at T = 1, untruncated
            ("finish_reason", pa.string()),
            *_FAILURE,
            *_STAMP,
        ]
    ),
)

SCORES = FactTable(
    "scores",
    ("completion_id", "scorer_id", "aspect", "repeat", "input_id"),
    pa.schema(
        [
            ("id", ID),
            ("completion_id", ID),
            ("scorer_id", CONFIG),  # imported: of the annotator's or judge's name
            ("aspect", pa.string()),
            ("repeat", pa.int32()),
            ("input_id", CONFIG),  # hash of what the scorer read besides the completion; imported: of what was said
            ("score", pa.float64()),
            ("rationale", pa.string()),
            ("raw", pa.string()),
            *_SPENT,
            *_FAILURE,
            *_STAMP,
        ]
    ),
)
"""An imported score is of the text that its scorer saw. Its `raw` is the cell as the file has it; what was said is part
of its key, so a corrected rating is a new fact, and the newest import says which of them its source holds.
"""

COMPARISONS = FactTable(
    "comparisons",
    ("completion_a", "completion_b", "scorer_id", "aspect", "order", "repeat", "input_id"),
    pa.schema(
        [
            ("id", ID),
            ("completion_a", ID),  # the smaller id of the two
            ("completion_b", ID),
            ("scorer_id", CONFIG),
            ("aspect", pa.string()),
            ("order", pa.string()),  # as shown to the judge: ab, ba or unknown
            ("repeat", pa.int32()),
            ("input_id", CONFIG),
            ("preference", pa.float64()),  # in [0, 1]: 1 prefers a, 0 prefers b
            ("rationale", pa.string()),
            ("raw", pa.string()),
            *_SPENT,
            *_FAILURE,
            *_STAMP,
        ]
    ),
)
"""An imported comparison is stored like any other, with the smaller id first: preference and order are turned with it.
What holds of imported scores holds of comparisons.
"""

TRAINED = FactTable(
    "trained",
    ("completion_id", "prompt_id", "model_id", "max_length"),
    pa.schema(
        [
            ("id", ID),
            ("completion_id", ID),
            ("prompt_id", ID),
            ("model_id", pa.string()),  # whose tokenizer and chat template
            ("max_length", CONFIG),  # of prompt and completion, in tokens
            ("tokens_id", ID),  # hash of the token ids of both
            ("count", pa.int32()),  # tokens of the completion
            ("cut", pa.int32()),  # tokens of it beyond the longest length
            ("retokenised", pa.bool_()),  # whether it was sampled with other tokens than these
            *_STAMP,
        ]
    ),
)
"""What a trainer of a model sees of a completion: with it a plan of log-probs needs no tokenizer."""

LOGPS = FactTable(
    "logps",
    ("completion_id", "prompt_id", "model_id", "tokens_id", "dtype"),
    pa.schema(
        [
            ("id", ID),
            ("completion_id", ID),
            ("prompt_id", ID),
            ("model_id", pa.string()),
            ("tokens_id", ID),  # hash of the token ids as trained
            ("dtype", pa.string()),
            ("logps", pa.float64()),  # sum over the completion
            ("count", pa.int32()),
            ("logprobs", pa.list_(pa.float32())),  # per token, optional
            *_STAMP,
        ]
    ),
)

CONFIGS = FactTable(
    "configs",
    ("kind", "id"),
    pa.schema(
        [
            ("id", ID),
            ("kind", pa.string()),  # sampler, scorer or policy
            ("config_id", CONFIG),
            ("name", pa.string()),
            ("json", pa.string()),  # canonical JSON of the identity values
            *_STAMP,
        ]
    ),
)
"""What the small integers in other tables stand for."""

_PROMPT_KEYS = pa.list_(pa.struct([("key", pa.string()), ("prompt_id", ID)]))
_DROPPED = pa.list_(
    pa.struct(
        [
            ("table", pa.string()),  # the file
            ("what", pa.string()),  # prompts, completions, scores or comparisons
            ("row", pa.int64()),
            ("outcome", pa.string()),
            ("detail", pa.string()),
        ]
    )
)
IMPORTS = FactTable(
    "imports",
    ("id",),
    pa.schema(
        [
            ("id", ID),  # the import's own batch id: a later import of a source replaces its content
            ("source", pa.string()),
            ("prompts_source", pa.string()),  # the source whose prompts it is about: its own name, or another's
            ("fingerprint", pa.string()),  # of the files' bytes and the mapping
            ("origin", pa.string()),
            ("task_ids", pa.list_(ID)),
            ("prompt_keys", _PROMPT_KEYS),  # what the files call the prompts
            ("completion_ids", pa.list_(ID)),
            ("completion_keys", pa.list_(pa.string())),  # what the files call each of them within its prompt
            ("score_ids", pa.list_(ID)),
            ("comparison_ids", pa.list_(ID)),
            ("outcomes", pa.string()),  # JSON: for each kind of record, counts by outcome
            ("dropped", _DROPPED),
            *_STAMP,
        ]
    ),
)
"""What a source holds, and what became of every record of the files it came from."""

FACT_TABLES = {t.name: t for t in (PROMPTS, TASKS, COMPLETIONS, SCORES, COMPARISONS, TRAINED, LOGPS, CONFIGS, IMPORTS)}
