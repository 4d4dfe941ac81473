"""The base of every configuration model, and what of a configuration is identity.

A field is identity when it changes what a row *means* (a temperature, a rubric); it is not when it only says where,
how fast or how often the work is done (a batch size, a worker count, `n`). Each model lists its identity fields once,
in `identity`, and that list is frozen: ids of facts already paid for hang on it. A field added later goes into
`identity_later` and stays out of the hash while it has its default, so old ids keep their value.
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from prefkit.identity import Json


class Config(BaseModel):
    """A validated, frozen block of a recipe; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    identity: ClassVar[tuple[str, ...]] = ()
    identity_later: ClassVar[tuple[str, ...]] = ()

    def identity_values(self) -> dict[str, Json]:
        """The values that make two configurations the same or not, from the validated model (so `1` equals `1.0`)."""
        dumped: dict[str, Json] = self.model_dump(mode="json")
        fields = type(self).model_fields
        later = {f for f in self.identity_later if getattr(self, f) != fields[f].get_default(call_default_factory=True)}
        return {name: dumped[name] for name in dumped if name in self.identity or name in later}
