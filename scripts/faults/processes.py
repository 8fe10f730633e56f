"""Faults of processes: cells and routers that die, are overrun or run out of something."""

from .callers import preferences
from .fault import BURNS, LATENCY, Fault, Pace
from .load_steps import crowd, crowd_goes, flood, many_open_files, stutter
from .machine_steps import restart_without_copies
from .needs import open_files, psql
from .postgres_steps import lose_users, return_users
from .steps import blind, kill, look_again, restart, stop

# Long enough for what is waited for for half an hour.
LONG = Pace(before=10, during=45, after=30, step_s=60)

PROCESSES = {
    "cell-killed": Fault(
        "The one process of eu-1 is killed, and started again. Callers ask for preferences too.",
        [kill("eu-1-0")], [restart("eu-1-0")],
        also=[preferences], pace=LONG,
        fires=["CellarProcessDown", "CellarCellAway", "CellarPreferencesStale", "CellarAvailabilityBurnsFast",
               "CellarAvailabilityBurns", "CellarAvailabilityErodes", "CellarAvailabilityErodesSlowly"],
        # Preferences are shown as they were.
        may=[*BURNS, *LATENCY, "CellarForwardsFail", "CellarAnswersDegraded"],
    ),
    "router-killed": Fault(
        "The only router of the region is killed, and started again: its callers find nobody.",
        [kill("eu-router")], [restart("eu-router")],
        fires=["CellarRouterDown"],
        may=[*BURNS, *LATENCY],
    ),
    "cell-restarting": Fault(
        "The one process of eu-1 is killed and started again every eight seconds.",
        [kill("eu-1-0"), restart("eu-1-0")], again_s=8,
        fires=["CellarRestartsOften", "CellarAvailabilityBurnsFast"],
        may=[*BURNS, *LATENCY, "CellarCellAway", "CellarProcessDown", "CellarShardClosed", "CellarForwardsFail"],
        # It is said for an hour.
        lingers=["CellarRestartsOften"],
    ),
    "not-watched": Fault(
        "Prometheus has no targets, then again.",
        [blind], [look_again],
        fires=["CellarNotWatched"],
        may=[*LATENCY],
        pace=Pace(before=20, during=20, after=20),
    ),
    "cell-overrun": Fault(
        "A caller asks for one user's checks, tens of thousands at once, again and again. His tier is shed early.",
        [flood(24)], again_s=0.2, tier='shed = "early"',
        fires=["CellarOverloaded", "CellarRequestsShed"],
        # Who waits in that line is answered too late, or not at all.
        may=[*BURNS, *LATENCY, "CellarCellAway"],
    ),
    "callers-slow": Fault(
        "Thousands of callers take eight seconds to send a request.",
        # It takes half a minute until all are there.
        [crowd], [crowd_goes], pace=Pace(during=65), needs=[open_files], prepares=[many_open_files],
        fires=["CellarDoorsNearlyFull"],
        may=[*BURNS, *LATENCY],
    ),
    "redis-slow": Fault(
        "The quota Redis of eu-1 stands still for 150 ms, six times a second: all is answered, and late.",
        [stutter("eu-1-redis-quota", 0.15)], again_s=0.02, pace=LONG,
        fires=["CellarLatencyBurnsFast", "CellarLatencyBurns", "CellarLatencyErodes", "CellarLatencyErodesSlowly"],
    ),
    "router-without-copies": Fault(
        "The directory is stopped, and the region's only router started again with nothing in its folder; then the "
        "directory is started.",
        [stop("directory"), restart_without_copies("eu-router")], [restart("directory")],
        fires=["CellarNoTopology", "CellarNoCatalog", "CellarDirectoryAway"],
        may=[*BURNS, *LATENCY, "CellarPoolSaturated"],
    ),
    "users-lost": Fault(
        "Five users of eu-1 are gone from its Postgres, as after a restore from a copy of before their sign-up, then "
        "there again.",
        [lose_users("eu-1-postgres", 5), restart("eu-1-0")], [return_users("eu-1-postgres"), restart("eu-1-0")],
        needs=[psql],
        fires=["CellarRequestsLost"],
        may=[*BURNS, *LATENCY],
    ),
    "directory-long-away": Fault(
        "The directory is stopped, and started again twelve minutes later.",
        [stop("directory")], [restart("directory")],
        pace=Pace(before=6, during=48, after=16, scrape_s=15),
        fires=["CellarDirectoryAway", "CellarDirectoryCopyOld"],
        may=[*BURNS, *LATENCY, "CellarPoolSaturated"],
    ),
}
