"""Faults of stores: Redis, Postgres, the directory."""

from .fault import BURNS, LATENCY, Fault
from .steps import flush, restart, stop

STORES = {
    "redis-away": Fault(
        "The quota Redis of eu-1 is stopped, and started again.",
        [stop("eu-1-redis-quota")], [restart("eu-1-redis-quota")],
        fires=["CellarRedisAway", "CellarAnswersDegraded"],
        may=[*BURNS, *LATENCY, "CellarTurnsOften"],
    ),
    "postgres-away": Fault(
        "The Postgres of eu-1 is stopped, and started again. The directory is another server.",
        [stop("eu-1-postgres")], [restart("eu-1-postgres")],
        fires=["CellarPostgresAway", "CellarReadsDegraded", "CellarUndrainedOld"],
        may=[*BURNS, *LATENCY, "CellarAnswersDegraded", "CellarDrainFails", "CellarPoolSaturated",
             "CellarTurnsOften", "CellarForwardsFail"],
    ),
    "stores-away": Fault(
        # In this order: a shard that has gone to Postgres stays open there, and says no less.
        "Postgres and then Redis of eu-1 are stopped, and started again.",
        [stop("eu-1-postgres"), stop("eu-1-redis-quota")], [restart("eu-1-postgres"), restart("eu-1-redis-quota")],
        fires=["CellarShardClosed", "CellarPostgresAway", "CellarAvailabilityBurnsFast"],
        may=[*BURNS, *LATENCY, "CellarRedisAway", "CellarReadsDegraded", "CellarAnswersDegraded", "CellarDrainFails",
             "CellarUndrainedOld", "CellarTurnsOften", "CellarPoolSaturated", "CellarOverloaded", "CellarForwardsFail",
             "CellarCellAway"],
    ),
    "directory-away": Fault(
        "The directory is stopped, and started again.",
        [stop("directory")], [restart("directory")],
        fires=["CellarDirectoryAway"],
        may=[*BURNS, *LATENCY, "CellarPoolSaturated"],
    ),
    "redis-flushed": Fault(
        "The quota Redis of eu-1 is emptied every second.",
        [flush("eu-1-redis-quota")], again_s=1,
        fires=["CellarTurnsOften"],
        may=[*BURNS, *LATENCY, "CellarAnswersDegraded", "CellarRedisAway"],
    ),
    "replica-away": Fault(
        "The replica of eu-1's quota Redis is stopped, and started again; the callers' tier has ack = replica.",
        [stop("eu-1-redis-replica")], [restart("eu-1-redis-replica")],
        up=["--redis", "sentinel"], tier='ack = "replica"',
        fires=["CellarUnreplicated", "CellarAvailabilityBurnsFast"],
        # Who waits for a replica holds up whom the router has gathered behind him.
        may=[*BURNS, *LATENCY, "CellarTurnsOften", "CellarRedisAway", "CellarAnswersDegraded", "CellarCellAway"],
    ),
    "allowed-without-stores": Fault(
        "Postgres and Redis of eu-1 are stopped, and started again; the callers' tier allows them something.",
        [stop("eu-1-postgres"), stop("eu-1-redis-quota")], [restart("eu-1-postgres"), restart("eu-1-redis-quota")],
        tier="on_unavailable = { allow_up_to = { tokens = 1000000 } }",
        fires=["CellarAllowedUnavailable", "CellarJournalWaits", "CellarShardClosed", "CellarPostgresAway"],
        may=[*BURNS, *LATENCY, "CellarRedisAway", "CellarReadsDegraded", "CellarAnswersDegraded", "CellarDrainFails",
             "CellarUndrainedOld", "CellarTurnsOften", "CellarPoolSaturated", "CellarForwardsFail", "CellarLateCharges",
             "CellarCellAway"],
        # A charge that was late is said for ten minutes, and these end with the fault.
        then=["CellarLateCharges"], lingers=["CellarLateCharges"],
    ),
    "cache-away": Fault(
        "The cache Redis of eu-1 is stopped, and started again.",
        [stop("eu-1-redis-cache")], [restart("eu-1-redis-cache")],
        fires=["CellarCacheAway"],
        may=[*BURNS, *LATENCY, "CellarPoolSaturated", "CellarAnswersDegraded"],
    ),
}
