-- The last patch of a user's preferences that waited in the quota Redis and is in `preferences` since: by the fence
-- it was taken under, and its number there. One that is found again at or below it is applied already.
alter table preference_versions
    add column patched_fence bigint not null default 0,
    add column patched_n     bigint not null default 0;
