"""Faults of policies and of the catalog."""

from .catalog_steps import candidate, publish, rollback, write_as_another_build
from .fault import Fault
from .needs import psql, toolchain
from .steps import cost, distrust_policies, trust_policies

TRAPS_AT_13 = ("trap", 'assert!(request.cost != 13, "a fault to be recorded");')
# Some six units of fuel a turn.
BURNS_AT_13 = ("heavy", "(0..115_000 * u64::from(request.cost == 13)).for_each(|n| _ = std::hint::black_box(n));")

POLICIES = {
    "nobody-trusted": Fault(
        "Whoever has signed the policies is trusted no longer, then again.",
        [distrust_policies], [trust_policies],
        fires=["CellarCatalogUnfit", "CellarPolicyRefused"],
        # It is said for an hour that something was refused.
        lingers=["CellarPolicyRefused"],
    ),
    "policy-traps": Fault(
        "The callers' tier has a policy that traps at a cost of 13, and for a while that is what they ask.",
        [cost(13)], [cost(1)],
        needs=[toolchain], tier='on_fault = "deny"', policy=TRAPS_AT_13,
        fires=["CellarPolicyFaulting", "CellarAnswersDegraded", "CellarPolicyBreakerOpen"],
    ),
    "policy-burns": Fault(
        "The callers' tier has a policy that burns three quarters of its fuel at a cost of 13, and for a while that is "
        "what they ask.",
        [cost(13)], [cost(1)],
        needs=[toolchain], tier="", policy=BURNS_AT_13,
        fires=["CellarPolicyFuelHigh"],
    ),
    "candidate-traps": Fault(
        "The callers' tier gets a candidate that traps at their cost, and is rolled back.",
        [candidate('on_fault = "allow"', "trap")], [rollback("recorded")],
        needs=[toolchain], tier='on_fault = "allow"', readies=[publish(*TRAPS_AT_13), cost(13)],
        fires=["CellarRolloutStopped"],
    ),
    "row-unread": Fault(
        "The row of the callers' tier is written as another build would, and then by this one.",
        [write_as_another_build("recorded")], [lambda stack: stack.put_tier("")],
        needs=[psql], tier="",
        fires=["CellarCatalogRowsUnread", "CellarCatalogUnfit"],
    ),
}
