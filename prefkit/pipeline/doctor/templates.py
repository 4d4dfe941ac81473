"""Whether the policy's chat template can be trained on."""

from collections.abc import Iterator

import polars as pl

from prefkit.pipeline.doctor.examined import Examined
from prefkit.pipeline.doctor.findings import Finding, Severity, of, such_as


def prefix_rule(seen: Examined) -> Iterator[Finding]:
    """Template(prompt + completion) must begin with template(prompt): trainers find the completion by that."""
    broken = seen.prompts.filter(~pl.col("prefix"))
    if broken.height:
        yield Finding(
            "template", Severity.ERROR,
            f"the chat template gives {of(broken.height, seen.prompts.height, 'prompt')} other tokens at the start of "
            f"prompt and completion than by itself{such_as(broken['text'])}; trainers would take the wrong tokens for "
            "the completion",
            "mend the template: what it writes before the answer must not depend on the answer", broken.height,
        )  # fmt: skip


def refused(seen: Examined) -> Iterator[Finding]:
    """Prompts that the template cannot render."""
    lost = seen.prompts.filter(pl.col("tokens").is_null())
    if lost.height:
        yield Finding(
            "template", Severity.ERROR if lost.height == seen.prompts.height else Severity.WARNING,
            f"the chat template refuses {of(lost.height, seen.prompts.height, 'prompt')}{such_as(lost['text'])}; "
            "they can be neither sampled nor trained on",
            "leave them out, or take a model whose template knows their roles", lost.height,
        )  # fmt: skip
