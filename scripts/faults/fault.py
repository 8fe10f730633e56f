"""A fault: what breaks, what mends it, and what has to fire."""

from dataclasses import dataclass, field

# These look at hours and days: on a history as short as a recording's they may still fire when all is well again.
SLOW = ["CellarAvailabilityBurns", "CellarAvailabilityErodes", "CellarAvailabilityErodesSlowly",
        "CellarLatencyBurns", "CellarLatencyErodes", "CellarLatencyErodesSlowly"]
BURNS = ["CellarAvailabilityBurnsFast", *SLOW]
# Two cores that carry everything decide whether the 20 ms are kept.
LATENCY = ["CellarLatencyBurnsFast"]


@dataclass(frozen=True)
class Pace:
    """How long it is looked at, and how far that is stretched.

    Each scrape becomes a sample of `step_s`: what lasted 40 s here lasts 20 minutes there, since windows of five
    minutes and an hour have to fill. Rates come out so many times lower than they were, ratios as they were, figures
    that are seconds (ages) as they were read. Times of the day are taken to the recording's own clock.
    """

    before: int = 20
    during: int = 40
    after: int = 40
    scrape_s: float = 1
    step_s: int = 30


@dataclass
class Fault:
    what: str
    # Steps (see steps.py) that break and that mend. What breaks is done again and again, if so, `again_s` apart.
    breaks: list = field(default_factory=list)
    mends: list = field(default_factory=list)
    again_s: float | None = None
    # Alerts that must fire at the end of the fault, and that may beside them.
    fires: list = field(default_factory=list)
    may: list = field(default_factory=list)
    # What must fire in the minutes after it, and what may still fire at the end.
    then: list = field(default_factory=list)
    lingers: list = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    # What of the machine, beside what a stack needs: functions that say what is not there (see needs.py).
    needs: list = field(default_factory=list)
    # Steps before the stack is started (it is given its environment then), and once it is up, before anybody looks.
    prepares: list = field(default_factory=list)
    readies: list = field(default_factory=list)
    # How the stack is started, and lines of the callers' own tier, if they have one, with further policies.
    up: list = field(default_factory=list)
    tier: str | None = None
    # A further policy of that tier: its name, and a line of it before it decides.
    policy: tuple[str, str] | None = None
    # What callers do beside checks, profiles and sign-ups: functions of (callers, connection, user, turn).
    also: list = field(default_factory=list)
