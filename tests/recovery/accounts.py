"""The accounts after a loop of kills: what was acknowledged, what is stored, what was called.

The clients' ledger is one side. The other is the journal, at each death and at the end, and the simulator,
which counts calls by idempotency key. What does not belong here: who is killed, and when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.recovery import chain, woven
from tests.recovery.ledger import Ledger
from tests.recovery.stored import StoredRun, integrity, stored_runs, succeeded_steps
from tests.simulator.process import Simulator


@dataclass(frozen=True, slots=True)
class Work:
    """What the clients submit, and what comes of it undisturbed."""

    submission: Callable[[str], Mapping[str, Any]]
    outputs_of: Callable[[str], Any]
    paths: Sequence[str]
    """Every step that calls the model."""


CHAIN: Final = Work(chain.submission, chain.outputs_of, chain.STEPS)
WOVEN: Final = Work(woven.submission, woven.outputs_of, woven.PATHS)


@dataclass(slots=True)
class Deaths:
    """What was known at the deaths of processes."""

    calls_of_succeeded: dict[str, int] = field(default_factory=dict)
    """Calls by `run:step` at the first death that found its outcome in the journal."""

    def note(self, data_dir: Path, simulator: Simulator, *, live: bool = False) -> None:
        """Look at what the dead left; `live`: other processes go on meanwhile."""
        # The journal first: what it holds by now is called by nobody from here on.
        succeeded = succeeded_steps(data_dir, live=live)
        calls = simulator.stats().by_key
        for key in succeeded:
            self.calls_of_succeeded.setdefault(key, calls.get(key, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Everything that is known in the end, once all processes have stopped."""

    work: Work
    ledger: Ledger
    deaths: Deaths
    data_dir: Path
    simulator: Simulator

    def balanced(self) -> dict[str, int]:
        """The figures, once every account was found to be right."""
        runs = stored_runs(self.data_dir)
        self._submitted(runs)
        lost = self._called(runs)
        assert integrity(self.data_dir) == "ok"
        return {
            "acknowledged": len(self.ledger.acknowledged),
            "under a key": len(self.ledger.keyed),
            "unanswered": len(self.ledger.unanswered),
            "lost attempts": lost,
            "outcomes at deaths": len(self.deaths.calls_of_succeeded),
        }

    def _submitted(self, runs: Mapping[str, StoredRun]) -> None:
        """What was acknowledged is there and complete, and nothing else is."""
        ledger = self.ledger
        assert ledger.contradictions == []
        assert [run_id for run_id in ledger.acknowledged if run_id not in runs] == [], "acknowledged and lost"
        flaws = {run_id: run.flaws() for run_id, run in runs.items() if run.flaws()}
        assert flaws == {}
        words = {run_id: run.labels[chain.LABEL] for run_id, run in runs.items()}
        wrong = {
            run_id: (run.status, run.outputs)
            for run_id, run in runs.items()
            if (run.status, run.outputs) != ("completed", self.work.outputs_of(words[run_id]))
        }
        assert wrong == {}
        assert [word for word, count in Counter(words.values()).items() if count > 1] == [], (
            "a word ran twice"
        )
        unknown = {word for run_id, word in words.items() if run_id not in ledger.acknowledged}
        assert unknown <= ledger.unanswered, "runs that nobody submitted"

    def _called(self, runs: Mapping[str, StoredRun]) -> int:
        """Nothing that was in the journal was called again, nothing more often than it was lost; the number
        of lost attempts."""
        calls = self.simulator.stats().by_key
        known = self.deaths.calls_of_succeeded
        repeated = {
            key: (count, calls.get(key, 0)) for key, count in known.items() if calls.get(key, 0) != count
        }
        assert repeated == {}, "outcomes were in the journal and their steps were called again"
        total = 0
        for run_id, run in runs.items():
            lost = Counter(run.of("AttemptLost"))
            made = {path: calls.get(f"{run_id}:{path}", 0) for path in self.work.paths}
            assert all(1 <= count <= 1 + lost[path] for path, count in made.items()), (run_id, made, lost)
            total += lost.total()
        return total
