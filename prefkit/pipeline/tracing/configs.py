"""What the config ids and policy ids in the fact tables stand for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from prefkit.identity import Json
from prefkit.pipeline.tracing.story import Settings
from prefkit.records import CONFIGS
from prefkit.sources.linking.ratings import annotator_id
from prefkit.store.facts import FactStore


@dataclass(frozen=True, slots=True)
class Configs:
    """The configs on record."""

    named: Mapping[tuple[str, int], tuple[str, Json]]
    """By kind and id: name and values."""
    policies: Mapping[str, Json]
    """By policy id: where the weights came from."""

    @classmethod
    def read(cls, facts: FactStore) -> "Configs":
        """All of them."""
        read = facts.read(CONFIGS, ["kind", "config_id", "name", "json"])
        rows = [(kind, number, name, json.loads(text)) for kind, number, name, text in read.iter_rows()]
        return cls(
            {(kind, number): (name, values) for kind, number, name, values in rows if number is not None},
            {name: values for kind, _, name, values in rows if kind == "policy"},
        )

    def settings(self, kind: str, config_id: int) -> Settings:
        """What a sampler's or scorer's id stands for."""
        name, values = self.named.get((kind, config_id), (None, None))
        annotator = name if kind == "scorer" and name is not None and annotator_id(name) == config_id else None
        return Settings(config_id, name, values, annotator)
