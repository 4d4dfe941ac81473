"""Stand-ins for what costs money or needs a GPU, so that recipes can be tried and tested without either.

`FakeEndpoint` is a judge behind a real HTTP server on this machine: what it answers, how it fails and what it would
have billed are set and seen from the test.
"""

from prefkit.testing.endpoint import FakeEndpoint
from prefkit.testing.faults import Fault
from prefkit.testing.judges import Asked, SimulatedJudge
from prefkit.testing.script import Script

__all__ = ["Asked", "FakeEndpoint", "Fault", "Script", "SimulatedJudge"]
