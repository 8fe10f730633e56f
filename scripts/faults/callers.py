"""Callers ask for checks, profiles and now and then a sign-up, whatever becomes of it."""

import http.client
import itertools
import json
import threading
import time
import urllib.parse

CALLERS = 4
USERS = 40
PAUSE_S = 0.03
PREPARE_S = 60


class Callers:
    """They ask until told to stop; what they are answered is the stack's to count."""

    def __init__(self, url, key, tier, also=()):
        parsed = urllib.parse.urlparse(url)
        self.at, self.key, self.users, self.over = (parsed.hostname, parsed.port), key, [], threading.Event()
        self.tier, self.cost, self.also, self.leavers = tier, 1, list(also), []

    def ask(self, method, path, body=None, headers=None, connection=None):
        own = connection or http.client.HTTPConnection(*self.at, timeout=5)
        try:
            fields = {"authorization": f"Bearer {self.key}", "content-type": "application/json", **(headers or {})}
            own.request(method, path, json.dumps(body) if body is not None else None, fields)
            answer = own.getresponse()
            return answer.status, answer.read()
        finally:
            if connection is None:
                own.close()

    def sign_up(self, name, connection=None):
        body = {"email": f"{name}@example.org", "tier": self.tier}
        return self.ask("POST", "/v1/users", body, connection=connection)

    def prepare(self):
        self.users = self.people("recorded", USERS)

    def people(self, name, count):
        """So many new users: their ids."""
        until = time.monotonic() + PREPARE_S
        return [self.person(f"{name}-{n}", until) for n in range(count)]

    def person(self, name, until):
        """Under another address each time: a sign-up that was answered with 503 may have been done."""
        for attempt in itertools.count():
            try:
                status, body = self.sign_up(f"{name}-{attempt}")
            except (OSError, http.client.HTTPException) as error:
                status, body = error, b""
            if status == 201:
                return json.loads(body)["user_id"]
            if time.monotonic() > until:
                raise SystemExit(f"{name} was not signed up: {status}")
            time.sleep(0.2)

    def go(self, count=CALLERS):
        for number in range(count):
            threading.Thread(target=self.call, args=(number,), daemon=True).start()

    def call(self, number):
        connection, turn = None, 0
        while not self.over.is_set():
            turn += 1
            user = self.users[(turn * CALLERS + number) % len(self.users)]
            try:
                connection = connection or http.client.HTTPConnection(*self.at, timeout=5)
                self.turn(connection, user, turn, number)
            except (OSError, http.client.HTTPException):
                connection = None
            time.sleep(PAUSE_S)

    def turn(self, connection, user, turn, number):
        if number == 0 and turn % 40 == 0:
            self.sign_up(time.monotonic_ns(), connection)
        elif turn % 4 == 0:
            self.ask("GET", "/v1/user/profile", headers={"cellar-user": user}, connection=connection)
        else:
            check = {"user_id": user, "cost": {"requests": 0, "tokens": self.cost}}
            self.ask("POST", "/v1/internal/quota/consume", check, connection=connection)
        for one in self.also:
            one(self, connection, user, turn)


def preferences(callers, connection, user, turn):
    """Now and then."""
    if turn % 5 == 0:
        callers.ask("GET", "/v1/user/preferences", headers={"cellar-user": user}, connection=connection)
