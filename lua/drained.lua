-- Lets records that Postgres holds expire, then trims what it holds from a shard's stream.
-- KEYS[1] fence:{s}, KEYS[2] ledger:{s}, KEYS[3…] records.
-- ARGV[1] this writer's `<fence>:<nonce>`, ARGV[2] first id to keep ('' = trim nothing), ARGV[3] time to
--   live in seconds; then of each record the head's (fence, epoch, version) that Postgres holds, 24 bytes.
-- Returns 'fenced' or 'done'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
for n = 3, #KEYS do
  -- A newer commit has taken the expiry away again, and its own drain will set it. Heads are
  -- compared byte for byte: only the very commit that was drained may expire.
  if redis.call('GETRANGE', KEYS[n], 0, 23) == ARGV[n + 1] then
    redis.call('EXPIRE', KEYS[n], ARGV[3])
  end
end
if ARGV[2] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2]) end
return 'done'
