"""What callers do beside checks, profiles and sign-ups, and users of whom a fault makes something else."""

import http.client
import random
import threading
import time

# Of those who are to leave: so many are at their preferences all the time.
BUSY = 6
ERASERS = 8
ERASED_WITHIN_S = 30
# In a batch: one entry of the ledger each.
BATCH = 10


def write_preferences(callers, connection, user, turn):
    callers.ask("POST", "/v1/user/preferences", {"turn": turn}, {"cellar-user": user}, connection)


def log_out(callers, connection, user, turn):
    """Everywhere."""
    callers.ask("DELETE", "/v1/sessions", None, {"cellar-user": user}, connection)


def check_batch(callers, connection, user, turn):
    checks = [{"user_id": callers.users[(turn + n) % len(callers.users)], "cost": {"requests": 0, "tokens": 1}}
              for n in range(BATCH)]
    callers.ask("POST", "/v1/internal/quota/batch", {"checks": checks}, None, connection)


def sign_up_in(region):
    """Under an id that was brought, which the default region's ring places elsewhere."""

    def also(callers, connection, user, turn):
        if turn % 20 == 0:
            name = f"brought-{time.monotonic_ns()}"
            body = {"email": f"{name}@example.org", "tier": callers.tier, "region": region, "user_id": name}
            callers.ask("POST", "/v1/users", body, None, connection)

    return also


def leavers_come(count):
    """Users who are there before anybody looks, and leave; a step of `readies`."""

    def step(stack):
        stack.callers.leavers = stack.callers.people("leaver", count)

    return step


def write_leavers_preferences(callers, connection, user, turn):
    """Those of half the turns are of the few who are busy with it."""
    leaver = random.choice(random.choice([callers.leavers, callers.leavers[:BUSY]]))
    write_preferences(callers, connection, leaver, turn)


def leave(stack):
    """Each asks once, whatever becomes of it."""
    for user in stack.callers.leavers:
        erase(stack.callers, user)


def leave_as_soon_as_possible(stack):
    """Beside whatever comes next, until each has been told that it is done."""
    until = time.monotonic() + ERASED_WITHIN_S

    def leave(users):
        for user in users:
            while not erase(stack.callers, user) and time.monotonic() < until:
                time.sleep(0.005)

    for n in range(ERASERS):
        threading.Thread(target=leave, args=(stack.callers.leavers[n::ERASERS],), daemon=True).start()


def erase(callers, user):
    try:
        status, _ = callers.ask("DELETE", f"/v1/internal/users/{user}")
        return status in (204, 404)
    except (OSError, http.client.HTTPException):
        return False
