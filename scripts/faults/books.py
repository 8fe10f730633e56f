"""Charges that stand in one place only, and books that do not agree."""

from .fault import BURNS, LATENCY, Fault, Pace
from .needs import psql
from .postgres_steps import audit, charge, lock, unlock
from .steps import environment, restart, stop
from .user_steps import check_batch, write_preferences

BOOKS = {
    "postgres-long-away": Fault(
        "The Postgres of eu-1 is stopped for six minutes, while callers send batches and write preferences.",
        [stop("eu-1-postgres")], [restart("eu-1-postgres")],
        also=[check_batch, write_preferences],
        # Ages are seconds as they were read: a patch has to wait for five minutes, in truth.
        pace=Pace(before=10, during=42, after=25, scrape_s=9),
        fires=["CellarUndrainedVeryOld", "CellarUndrainedOld", "CellarUndrainedNearBound", "CellarPatchesWait",
               "CellarPostgresAway", "CellarShardClosed", "CellarAvailabilityBurnsFast"],
        # To routers, a cell all of whose shards are closed is away; of one user, so many patches may wait and no more.
        may=[*BURNS, *LATENCY, "CellarReadsDegraded", "CellarAnswersDegraded", "CellarDrainFails", "CellarTurnsOften",
             "CellarCellAway", "CellarPatchesRefused"],
    ),
    "tables-locked": Fault(
        "Somebody holds a lock on the ledger and on preferences in eu-1's Postgres, then lets go of it.",
        [lock("eu-1-postgres", "ledger", "preference_versions")], [unlock], needs=[psql],
        # A pool as small as the few callers are.
        prepares=[environment("CELLAR_CELL__STANDARD_POOL_MAX", "2")], also=[write_preferences],
        fires=["CellarDrainFails", "CellarPoolSaturated", "CellarUndrainedOld"],
        # A router waits for 2 s as well: to it, a cell whose writes wait for a lock gives no answer.
        may=[*BURNS, *LATENCY, "CellarCellAway"],
    ),
    "ledger-changed": Fault(
        "Somebody adds a token to a charge in eu-1's ledger, by hand, and an audit follows; then it is taken back.",
        [charge("eu-1-postgres", 1), audit], [charge("eu-1-postgres", -1), audit],
        needs=[psql], readies=[audit],
        pace=Pace(before=10, during=12, after=12),
        fires=["CellarAuditMismatch"],
        may=[*LATENCY],
    ),
    "nobody-audits": Fault(
        "Nobody compares the books for a week and more, then somebody does.",
        [], [audit],
        # A scrape counts for three hours.
        pace=Pace(before=10, during=55, after=10, step_s=10_800),
        fires=["CellarAuditOld"],
    ),
}
