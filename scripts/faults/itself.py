"""Traces, log lines and labels that are lost."""

from .catalog_steps import rollback, tier
from .fault import Fault
from .telemetry_steps import (collect_all_spans, leave_log, let_collector_answer, log_to_pipe, read_log,
                              stall_collector)

# With those of the three tiers that a stack begins with, just below the 128 that have series of their own.
CROWD = [tier(f"crowd-{number}", 8) for number in range(15)]

ITSELF = {
    "collector-stalls": Fault(
        "The collector of spans does not answer any more, then again. Every request is traced.",
        [stall_collector], [let_collector_answer],
        prepares=[collect_all_spans],
        fires=["CellarSpansDropped"],
    ),
    "log-unread": Fault(
        "The log of eu-1's process is a pipe, which nobody reads any more, then again.",
        [leave_log], [read_log],
        readies=[log_to_pipe("eu-1-0", "info,sqlx=debug")],
        fires=["CellarLogLinesLost"],
    ),
    "many-slots": Fault(
        "One tier more than have series of their own by slot, then its slots are fewer.",
        [tier("last", 8)], [rollback("last")],
        readies=[*CROWD, tier("last", 1)],
        fires=["CellarLabelOverflow"],
    ),
}
