-- When the first reservation of the drained record expires, in policy time; null while none is open.
alter table quota_state add column expires_at_us bigint;

-- What the sweep looks through: users with an open reservation, and nobody else.
create index quota_state_expiry on quota_state (shard, expires_at_us) where expires_at_us is not null;
