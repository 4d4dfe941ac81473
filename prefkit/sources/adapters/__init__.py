"""Known shapes of published preference data, by name: from the rows of a file to what they hold.

An adapter is a pure function from `SourceRows` to `Shaped`, in a module of its own whose docstring says which columns
it reads, what becomes of them, and which traps of the shape it knows. It looks nothing up and drops nothing: what it
cannot use is a row of `refused`. Columns it does not name are not read.

To add one: write the module, enter it in `ADAPTERS`, and test it with small rows that have the traps.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, cast

from prefkit.errors import SourceError, suggestion
from prefkit.sources.rows import SourceRows
from prefkit.sources.shaped import Shaped

Adapter: TypeAlias = Callable[[SourceRows], Shaped]
_HERE = "prefkit.sources.adapters"


class Registered(NamedTuple):
    """Where an adapter lives, and what it reads."""

    where: str
    about: str


ADAPTERS: Mapping[str, Registered] = {
    "alpaca_eval_annotations": Registered(
        f"{_HERE}.alpaca_eval:annotations", "AlpacaEval annotations.json: two outputs and a graded preference"
    ),
    "alpaca_eval_outputs": Registered(
        f"{_HERE}.alpaca_eval:outputs", "AlpacaEval model_outputs.json: one model's output for every instruction"
    ),
    "arena": Registered(f"{_HERE}.arena:arena", "Battles of two models: model_a, model_b, conversations and a winner"),
    "finegrained_qa": Registered(
        f"{_HERE}.finegrained_qa:finegrained_qa", "Fine-Grained RLHF QA feedback: four answers, six human choices"
    ),
    "helpsteer": Registered(
        f"{_HERE}.helpsteer:helpsteer", "HelpSteer: one response a row, five attributes from 0 to 4"
    ),
    "hh_rlhf": Registered(f"{_HERE}.hh_rlhf:hh_rlhf", "HH-RLHF: chosen and rejected dialogues as marked text"),
    "mqm": Registered(f"{_HERE}.mqm:mqm", "MQM: translation errors marked by raters, joined with the segments"),
    "mt_bench_judgments": Registered(
        f"{_HERE}.mt_bench_judgments:mt_bench_judgments", "MT-Bench single-answer judgments with the judge's prompt"
    ),
    "rubric_judge": Registered(
        f"{_HERE}.rubric_judge:rubric_judge", "Responses graded several times against a rubric of their own"
    ),
    "stack_exchange": Registered(
        f"{_HERE}.stack_exchange:stack_exchange", "Stack Exchange questions: answers with votes and the accepted one"
    ),
    "trl": Registered(f"{_HERE}.trl:trl", "TRL rows: prompt, chosen, rejected, or prompt, completion, label"),
    "ultrafeedback": Registered(
        f"{_HERE}.ultrafeedback:ultrafeedback", "UltraFeedback: several completions a row, rated on several aspects"
    ),
    "ultrafeedback_lists": Registered(
        f"{_HERE}.ultrafeedback_lists:ultrafeedback_lists", "Generations, ratings and rationales in parallel lists"
    ),
}
"""Name to adapter; modules are imported when they are used."""


def adapter(name: str) -> Adapter:
    """The adapter of that name. Raises SourceError when there is none."""
    if name not in ADAPTERS:
        raise SourceError(
            f"adapter {name!r} does not exist, expected one of {', '.join(sorted(ADAPTERS))}{_near(name)}"
        )
    module, _, function = ADAPTERS[name].where.partition(":")
    return cast(Adapter, getattr(importlib.import_module(module), function))


def _near(name: str) -> str:
    near = suggestion(name, list(ADAPTERS))
    return near if "did you mean" in near else ""
