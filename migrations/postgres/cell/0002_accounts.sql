-- Sign-ups, sessions and preferences of the users in `users` and `ownership`.

-- What became of each sign-up here, for good: a committed one answers its repeats, a refused one
-- stays refused. `body` hashes what was asked under the intent.
create table intents (
    intent     text primary key,
    user_id    text not null,
    state      text not null check (state in ('committed', 'refused')),
    body       bytea not null,
    decided_at timestamptz not null default now()
);

create index intents_user on intents (user_id);

-- A session is in force while it is not revoked, not expired, and of its user's session_epoch.
-- The secret itself is known to its holder alone; 160 random bits need no slow hash.
create table sessions (
    session_id    text primary key,
    user_id       text not null references users on delete cascade,
    secret_hash   bytea not null,
    session_epoch bigint not null,
    device_info   jsonb not null,
    created_at    timestamptz not null default now(),
    expires_at    timestamptz not null,
    revoked_at    timestamptz
);

create index sessions_user on sessions (user_id, created_at);

-- Apart from `sessions`, because it changes often and may be minutes late.
create table session_activity (
    session_id  text primary key references sessions on delete cascade,
    last_active timestamptz not null
);

create table preferences (
    user_id text not null references users on delete cascade,
    key     text not null,
    value   jsonb not null,
    primary key (user_id, key)
);

-- The counter behind the ETag; its row is what writers of one user's preferences lock.
create table preference_versions (
    user_id text primary key references users on delete cascade,
    version bigint not null
);
