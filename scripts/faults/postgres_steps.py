"""Steps that somebody does by hand to a cell's Postgres, and the audit that finds what he did."""

import subprocess

# The oldest row stays the oldest, so what was changed is found again.
CHARGE = """
    update ledger set charges = jsonb_set(charges, '{tokens}', to_jsonb((charges->>'tokens')::bigint + (%d)))
    where (at_us, shard, fence, seq, n) = (
        select at_us, shard, fence, seq, n from ledger where charges ? 'tokens'
        order by at_us, shard, fence, seq, n limit 1)"""


def psql(stack, name):
    """A session that takes statements, and what it has not committed goes with it."""
    command = ["psql", stack.process(name)["url"], "-qtA", "-v", "ON_ERROR_STOP=1"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def tell(name, statements):
    def step(stack):
        session = psql(stack, name)
        session.communicate(statements)
        if session.returncode != 0:
            raise SystemExit(f"{name} did not do {statements}")

    return step


def charge(name, tokens):
    """Adds so many to the oldest charge, in the ledger alone."""
    return tell(name, CHARGE % tokens)


def audit(stack):
    """Of all cells. It ends with 1 if books do not agree."""
    stack.run("audit", good=(0, 1))


def lock(name, *tables):
    """Others read these tables, and wait for 2 s before they give up writing."""

    def step(stack):
        session = stack.kept["lock"] = psql(stack, name)
        stack.undo.callback(session.kill)
        session.stdin.write(f"begin; lock table {', '.join(tables)} in exclusive mode;\n")
        session.stdin.flush()

    return step


def unlock(stack):
    stack.kept["lock"].communicate()


def lock_for(name, seconds, *tables):
    """As long as others have the patience to wait."""

    def step(stack):
        held = f"begin; lock table {', '.join(tables)} in exclusive mode; select pg_sleep({seconds}); commit;"
        psql(stack, name).communicate(held)

    return step


def lose_users(name, count):
    """The cell knows nothing of so many any more, and the directory has them there: as after a restore."""
    return tell(name, f"""
        create table lost as select * from ownership order by user_id limit {count};
        delete from ownership where user_id in (select user_id from lost)""")


def return_users(name):
    return tell(name, "insert into ownership select * from lost; drop table lost")
