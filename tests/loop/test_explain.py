"""Explanations: plain words and numbers from the ledger alone, whatever a row of it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop import evidence as ev
from everlearn.loop.alerts import alert_of, alerts_of
from everlearn.loop.explain import MEANINGS, explain, newest
from everlearn.loop.explain_evidence import Facts, flips, rows_to_proof
from everlearn.spec import parse_spec
from everlearn.types import Decision, DecisionKind, Version

SPEC = parse_spec({"name": "toy", "target": "y", "features": {"a": "numeric"}, "threshold": 0.8})


def row(
    number: int, kind: str, reason: str = "words", version: int | None = None, **evidence: Any
) -> Decision:
    at = 1_714_564_800.0 + number  # 2024-05-01 12:00
    return Decision(number, 100 * number, at, DecisionKind(kind), reason, evidence, version, "0.1.0")


def compared(
    wins: int, losses: int, rows: int = 2000, attempt: int = 3, alpha: float = 0.05
) -> dict[str, Any]:
    """Evidence as the gate writes it for 0/1 losses."""
    share, log_e = ev.share(alpha, attempt), ev.log_better(ev.Evidence(True, wins, losses))
    e = math.exp(log_e)
    losses_of = {"old_loss": 0.1 + wins / rows, "new_loss": 0.1 + losses / rows}
    counts = {"rows": rows, "wins": wins, "losses": losses, "gain": (wins - losses) / rows}
    return {**counts, **losses_of, "e_value": e, "needed": 1 / share, "attempt": attempt, "alpha": share,
            "log_e": log_e, "e": e}  # fmt: skip


def bars(proof: bool | None, **others: Any) -> dict[str, Any]:
    superiority = {
        "passed": proof,
        "e_value": 9.0,
        "needed": 30.0,
        "low": 0.01,
        "high": 0.05,
        "confidence": 0.95,
    }
    return {"superiority": superiority, "servable": {"passed": True}, **others}


HISTORY = [
    row(1, "configure", "created", changed=[]),
    row(2, "promote", "proven better than nothing", 1, job="toy-1", replaces=0),
    row(3, "warn", "drift: the loss rose", 1, detector="cusum", before=0.1, after=0.2, width=80),
    row(4, "update", "accuracy is too low", 2, job="toy-4", plan={"mode": "fresh", "holdout": 250}),
    row(5, "trial", "is scored in shadow", 2, job="toy-4"),
]


class TestPromotion:
    def test_it_tells_what_came_before_the_evidence_and_what_would_turn_it(self) -> None:
        evidence = compared(120, 40) | {"bars": bars(True), "replaces": 1, "job": "toy-4"}
        sides = {"champion": {"accuracy": 0.8}, "candidate": {"accuracy": 0.86}}
        made = Version("toy", 2, 1, "blend", {}, 1, 9, 9, 700, "d", {"seconds": 1.5}, 0.0)

        told = explain(row(6, "promote", "proven", 2, **sides, **evidence), HISTORY, SPEC, made)

        assert told.headline == "Version 2 was promoted (decision 6)"
        for part in (
            "on 2024-05-01 at 12:00:06 UTC at event 600",
            "Version 2 took over from version 1.",
            "trained anew by decision 4, because: “accuracy is too low”",
            "decision 3, “drift: the loss rose”",
            "It had learned from 700 examples, which took 1.5 s.",
            "accuracy was 0.86, against 0.8 of the champion",
            "only version 2 was right on 120 rows, only version 1 on 40",
            "attempt 3 against this champion",
            "between 0.01 and 0.05, at 95% confidence",
            "passed: proven better and servable artifact",
        ):
            assert part in told.paragraph
        assert "with an e-value under 296.1: that is, if" in told.why_not
        numbers = {n.name: n.value for n in told.numbers}
        assert numbers["candidate.accuracy"] == 0.86
        assert numbers["bars.superiority.needed"] == 30.0
        assert {n.name: n.meaning for n in told.numbers}["wins"]

    def test_an_operators_word_needs_no_evidence(self) -> None:
        asked = row(6, "promote", "promoted by command", 1, by="ann", why="the sensor is back", replaces=2)
        told = explain(asked, HISTORY, SPEC)
        assert "asked for by ann, who gave as the reason: “the sensor is back”" in told.paragraph
        assert "operator" in told.why_not

    def test_an_archived_version_cost_nothing(self) -> None:
        told = explain(row(6, "promote", "back", 1, reused=True, **compared(60, 10)), HISTORY, SPEC)
        assert told.headline == "Version 1 came back (decision 6)"
        assert "cost no training" in told.paragraph

    def test_a_p_value_of_an_older_ledger_is_read(self) -> None:
        old = row(6, "promote", "proven better", 2, rows=100, p_better=0.001, alpha=0.05, test="mcnemar")
        assert "gave p = 0.001, at alpha = 0.05" in explain(old, [], SPEC).paragraph


class TestRefusal:
    def test_it_says_which_bar_failed_and_what_it_needed(self) -> None:
        group = {"region=EU": {"passed": False, "rows": 80}, "region=US": {"passed": True, "rows": 90}}
        lost = {"passed": False, "margin": 0.01, "groups": group}
        evidence = compared(50, 40) | {"bars": bars(None, non_inferiority=lost), "end": "reject"}
        told = explain(row(6, "refuse", "worse in region=EU", 2, **evidence), HISTORY, SPEC)
        assert told.headline == "Version 2 was refused (decision 6)"
        assert "failed: no segment worse than the margin; still open: proven better" in told.paragraph
        assert "an e-value of 30 (it was 9)" in told.why_not
        assert "loses less than 0.01 a row in region=EU" in told.why_not

    def test_it_says_when_proof_was_to_be_expected(self) -> None:
        evidence = compared(60, 40) | {"bars": bars(None), "end": "expire"}
        told = explain(row(6, "refuse", "its label budget is spent", 2, **evidence), HISTORY, SPEC)
        assert "label budget was spent" in told.paragraph
        assert "proof is to be expected at about" in told.why_not

    def test_what_is_proven_worse_says_so(self) -> None:
        evidence = compared(2, 30) | {
            "bars": {"superiority": {"passed": False, "e_worse": 40.0}},
            "end": "reject",
        }
        told = explain(row(6, "refuse", "proven worse", 2, **evidence), HISTORY, SPEC)
        assert "“version 2 is worse”, came to 40, which proves it" in told.paragraph

    def test_what_was_superseded_was_not_worse(self) -> None:
        told = explain(row(6, "refuse", "superseded", 2, end="superseded", **compared(9, 4)), HISTORY, SPEC)
        assert "if no other version had come between" in told.why_not

    def test_a_command_is_refused_for_what_it_says(self) -> None:
        told = explain(row(6, "refuse", "the model is frozen: unfreeze it first", by="ann"), HISTORY, SPEC)
        assert told.headline == "A command was refused (decision 6)"
        assert "unfreeze it first" in told.why_not


class TestNextVersionOfAStream:
    """It passes unless it is proven worse, or has forgotten what must not be: no proof that it is better."""

    def test_a_refusal_names_no_proof_that_was_not_asked_for(self) -> None:
        lost = {"passed": False, "margin": 0.01, "regimes": {"regime 1": {"passed": False}}}
        evidence = compared(2, 2, attempt=1) | {"bars": {"forgetting": lost}, "end": "reject"}
        told = explain(row(6, "refuse", "it has forgotten regime 1", 2, **evidence), HISTORY, SPEC)
        assert "1/alpha" not in told.paragraph
        assert "failed: no protected regime forgotten" in told.paragraph
        assert told.why_not == (
            "To be promoted it needed a loss on protected anchors that rises by less than 0.01."
        )

    def test_a_promotion_names_what_would_have_kept_it_out(self) -> None:
        evidence = compared(60, 2, attempt=1) | {"bars": {"forgetting": {"passed": True}}, "end": "promote"}
        told = explain(row(6, "promote", "not proven worse", 2, **evidence), HISTORY, SPEC)
        assert "1/alpha" not in told.paragraph
        assert told.why_not == (
            "It would have stayed out if it had been proven worse, or could not have been served, "
            "or if one of these had not held: no protected regime forgotten."
        )


class TestRollback:
    EVIDENCE = {  # as the bake writes it
        "rows": 900, "wins": 80, "losses": 30, "served_loss": 0.16, "old_loss": 0.1, "gain": 0.06,
        "e_value": 400.0, "needed": 111.1, "alpha": 0.01, "served_low": 0.12, "old_high": 0.11,
        "automatic": True, "replaces": 2,
    }  # fmt: skip

    def test_it_tells_what_was_promoted_and_how_it_lost(self) -> None:
        promoted = row(6, "promote", "proven better", 2)
        told = explain(
            row(7, "rollback", "version 2 is worse", 1, **self.EVIDENCE), [*HISTORY, promoted], SPEC
        )
        assert told.headline == "Version 1 came back (decision 7)"
        for part in (
            "in place of version 2",
            "promoted by decision 6: “proven better”",
            "was served was 0.16, and that of version 1 in its shadow 0.1",
            "came to 400, with 111.1 (1/alpha) needed",
            "at least 0.12, the old one at most 0.11",
        ):
            assert part in told.paragraph
        assert "had not reached an e-value of 111.1" in told.why_not
        assert "by more than 0.01" in told.why_not

    def test_losses_with_intervals_are_read(self) -> None:
        given = {
            "rows": 90,
            "served_loss": [0.2, 0.15, 0.25],
            "old_loss": [0.1, 0.05, 0.14],
            "e": 120.0,
            "alpha": 0.01,
        }
        told = explain(row(7, "rollback", "worse", 1, automatic=True, **given), [], SPEC)
        assert "at least 0.15, the old one at most 0.14" in told.paragraph
        assert {"served_loss", "served_loss.lower", "served_loss.upper"} <= {n.name for n in told.numbers}

    def test_by_command(self) -> None:
        told = explain(
            row(7, "rollback", "rolled back by command from version 2", 1, by="ann"), HISTORY, SPEC
        )
        assert "by ann" in told.paragraph
        assert "without the command" in told.why_not


STANDING = {"metric": "accuracy", "value": 0.79, "lower": 0.75, "upper": 0.83, "rows": 500, "threshold": 0.8}


class TestChampion:
    def test_an_update_names_the_metric_that_would_have_held(self) -> None:
        reason = "accuracy 0.7900 does not keep the threshold 0.8"
        told = explain(row(6, "update", reason, 3, job="toy-6", plan={"mode": "fresh"}, **STANDING), [], SPEC)
        assert "accuracy was 0.79, between 0.75 and 0.83 on its newest 500 matured rows" in told.paragraph
        assert "accuracy at about 0.84 on as many rows, or a threshold of at most 0.75" in told.why_not

    def test_where_less_is_better_the_sides_change(self) -> None:
        spec = parse_spec({"name": "toy", "task": "regression", "target": "y", "features": {"a": "numeric"},
                           "metric": "mae", "threshold": 2.0})  # fmt: skip
        standing = {"metric": "mae", "value": 1.9, "lower": 1.7, "upper": 2.1, "rows": 500, "threshold": 2.0}
        told = explain(row(6, "update", "mae does not keep the threshold 2", 3, **standing), [], spec)
        assert "mae at about 1.8 on as many rows, or a threshold of at least 2.1" in told.why_not

    def test_what_staying_costs_is_told_beside_the_metric_and_its_bounds(self) -> None:
        costs = {"cost": 25.0, "accumulated": 40.0, "lost": 90.0, "cost_rows": 700}
        told = explain(row(6, "update", "staying has cost 40 rows", 3, **{**STANDING, **costs}), [], SPEC)
        assert "at 40 rows answered wrongly in 700 rows, an update at 25" in told.paragraph
        assert "between 0.75 and 0.83 on its newest 500 matured rows" in told.paragraph
        assert "price of an update above 25" in told.why_not

    def test_what_staying_costs_is_not_taken_for_a_bound_in_older_evidence(self) -> None:
        costs = {"upper": 40.0, "cost": 25.0, "accumulated": 40.0, "lost": 90.0, "rows": 700}
        told = explain(row(6, "update", "staying has cost 40 rows", 3, **{**STANDING, **costs}), [], SPEC)
        assert "at 40 rows answered wrongly in 700 rows, an update at 25" in told.paragraph
        assert "between" not in told.paragraph

    @pytest.mark.parametrize(
        ("reason", "evidence", "expected"),
        [
            ("accuracy keeps the threshold 0.8", STANDING, "lower bound (0.75) is under 0.8"),
            ("insufficient labels: too few", {"matured": 3}, "once 200 rows of this champion have matured"),
            (
                "insufficient labels: fewer than 300",
                {"examples": 3, "needed": 300},
                "once 300 examples are known",
            ),
            ("frozen", {}, "unfreezes"),
            ("no room today; held back: x", {"updates_left": 0}, "room left in the day's budget"),
        ],
    )
    def test_a_hold_says_what_it_waits_for(
        self, reason: str, evidence: dict[str, Any], expected: str
    ) -> None:
        assert expected in explain(row(6, "hold", reason, 1, **evidence), [], SPEC).why_not

    def test_a_warning_names_what_moved_and_the_budget_of_false_alarms(self) -> None:
        features = [{"name": "age", "test": "ks", "p": 0.0001, "size": 0.3}]
        told = explain(row(6, "warn", "age moved", 1, features=features, found=4), [], SPEC)
        assert "age (KS, p = 0.0001) and 3 more" in told.paragraph
        assert "No label is behind it" in told.paragraph
        assert "1 times in 10,000 rows" in told.why_not
        assert "features.age.p" in {n.name for n in told.numbers}

    def test_abstention_begins_and_ends(self) -> None:
        now = {"floor": 0.7, "action": "withhold", "value": 0.6, "lower": 0.55, "upper": 0.65, "rows": 500}
        begun = explain(row(6, "abstain", "under", 1, abstaining=True, **now), [], SPEC)
        over = explain(row(7, "abstain", "over", 1, abstaining=False, **now), [], SPEC)
        assert "answers are withheld" in begun.paragraph
        assert begun.headline.startswith("The model abstains")
        assert over.headline.startswith("The model answers again")

    def test_the_spec_may_have_changed_since(self) -> None:
        later = row(9, "configure", "configured", changed=["gate"])
        assert "changed since (decision 9)" in explain(row(6, "hold", "x"), [later], SPEC).paragraph


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
PARTS = (
    "bars",
    "end",
    "features",
    "estimate",
    "plan",
    "job",
    "protected",
    "recognised",
    "abstaining",
    "metric",
)
MORE = (
    "versions",
    "archived",
    "changed",
    "by",
    "why",
    "interval",
    "automatic",
    "reused",
    "servable",
    "action",
)
KNOWN = (*MEANINGS, *PARTS, *MORE)
EVIDENCE = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=4), JSON, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(DecisionKind)),
    EVIDENCE,
    EVIDENCE,
    st.none() | st.integers(0, 9),
    st.none() | st.just(SPEC),
    st.floats(allow_nan=True),
)
def test_any_evidence_is_explained(
    kind: DecisionKind,
    evidence: dict[str, Any],
    earlier: dict[str, Any],
    version: int | None,
    spec: Any,
    at: float,
) -> None:
    past = Decision(3, 5, 0.0, DecisionKind.UPDATE, "r", earlier, version)
    decision = Decision(7, 9, at, kind, "the reason", evidence, version)
    told = explain(decision, [past], spec)
    assert told.headline
    assert told.paragraph.startswith("This was decided")
    assert all(math.isfinite(n.value) for n in told.numbers)
    assert alert_of(decision) is None or "\n" not in alert_of(decision).line("m")  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_the_other_way_is_exact(wins: int, losses: int) -> None:
    """One row fewer than it names, and the proof would have held."""
    given_ = compared(wins, losses)
    turned = flips(Facts(given_))
    proven = given_["e_value"] >= given_["needed"]
    if turned is not None:
        assert proven
        kept = compared(wins - turned + 1, losses + turned - 1)["e_value"]
        assert kept >= given_["needed"] > compared(wins - turned, losses + turned)["e_value"]
    if proven and wins > 0:
        assert turned is not None
    later = rows_to_proof(Facts(given_))
    assert later is None or later >= given_["rows"] * (1.0 if not proven else 0.0)


def test_the_newest_promotion_rollback_or_refusal_is_asked_about() -> None:
    assert newest([*HISTORY, row(9, "hold")]) == HISTORY[1]
    assert newest([row(9, "hold")]) is None


def test_alerts_are_what_nobody_asked_for() -> None:
    ledger = [
        row(1, "rollback", "rolled back by command from version 2", 1, by="ann"),
        row(2, "rollback", "version 2 is\nworse", 1, automatic=True),
        row(3, "freeze", "freeze by command", by="ann"),
        row(4, "freeze", "frozen: 3 promotions in a row", rollbacks=3, automatic=True),
        row(5, "abstain", "under the floor", abstaining=True),
        row(6, "abstain", "answers as usual again", abstaining=False),
        row(7, "warn", "drift"),
        row(8, "promote", "proven better", 3),
    ]
    found = list(alerts_of(ledger))
    assert [(alert.kind, alert.decision.number) for alert in found] == [
        ("rollback", 2), ("freeze", 4), ("abstain", 5), ("drift", 7),
    ]  # fmt: skip
    assert found[0].line("shop") == "alert: shop: rollback (decision 2): version 2 is worse"


def test_the_ledger_of_a_drifting_stream_is_explained_in_full(make_world: Callable[..., Any]) -> None:
    world = make_world()
    world.stream(120)
    world.stream(130, turned=True)
    world.command("rollback", by="ann")
    ledger = list(world.store.ledger.decisions("toy", None, 1000).items)
    assert {"promote", "update", "rollback"} <= {d.kind for d in ledger}
    for decision in ledger:
        told = explain(decision, ledger, world.spec)
        text = f"{told.headline} {told.paragraph} {told.why_not}"
        assert not {"None", "nan", "inf"} & set(text.replace(".", " ").split())
        assert decision.reason in text or decision.kind in ("promote", "rollback", "trial", "freeze")
