-- Candidates of tiers that this cell has stopped by itself: a tier's latest. It holds for that revision only.
create table rollout_stops (
    tier     text primary key,
    revision bigint not null,
    reason   text not null
);
