"""What users are shown and told: preferences, revocations, follow-ups."""

from .fault import BURNS, LATENCY, Fault, Pace
from .needs import psql
from .postgres_steps import lock_for
from .steps import kill, restart, stop
from .user_steps import (
    leave, leave_as_soon_as_possible, leavers_come, log_out, sign_up_in, write_leavers_preferences)

ANSWERS = {
    "preferences-wait": Fault(
        "The Postgres of eu-1 is stopped while some users change preferences again and again; as it comes back, they "
        "leave.",
        [stop("eu-1-postgres")], [leave_as_soon_as_possible, restart("eu-1-postgres")],
        readies=[leavers_come(60)], also=[write_leavers_preferences],
        pace=Pace(before=12, during=32, after=25),
        fires=["CellarPatchesRefused", "CellarPostgresAway", "CellarReadsDegraded"],
        may=[*BURNS, *LATENCY, "CellarAnswersDegraded", "CellarUndrainedOld", "CellarDrainFails",
             "CellarPoolSaturated"],
        # It is said for an hour.
        then=["CellarPatchesOrphaned"], lingers=["CellarPatchesOrphaned"],
    ),
    "log-outs-slow": Fault(
        "Somebody locks the users in eu-1's Postgres for 1.7 s, again and again, while callers log out.",
        [lock_for("eu-1-postgres", 1.7, "users")], again_s=0.1, needs=[psql],
        also=[log_out],
        pace=Pace(before=12, during=28, after=25),
        fires=["CellarRevocationSlow"],
        may=[*BURNS, *LATENCY],
    ),
    "erasures-due": Fault(
        "The directory is stopped for more than an hour, and users leave meanwhile.",
        [stop("directory"), leave], [restart("directory")],
        readies=[leavers_come(4)],
        # A round that has left something is followed by another within 30 s.
        pace=Pace(before=15, during=80, after=45, step_s=60),
        fires=["CellarFollowUpsDue", "CellarDirectoryAway"],
        may=[*BURNS, *LATENCY, "CellarPoolSaturated"],
    ),
    "forwards-fail": Fault(
        "The one process of eu-1 is killed, while users sign up in us whom the ring places in eu-1.",
        [kill("eu-1-0")], [restart("eu-1-0")],
        up=["--regions", "2", "--cells", "1"], also=[sign_up_in("us")],
        # What has failed is said for a quarter of an hour.
        pace=Pace(during=45, after=45),
        fires=["CellarForwardsFail", "CellarProcessDown", "CellarCellAway", "CellarAvailabilityBurnsFast"],
        may=[*BURNS, *LATENCY, "CellarPreferencesStale"],
    ),
}
