-- Makes ARGV[1] `<fence>:<nonce>` the writer of a shard, unless a higher fence stands there.
-- KEYS[1] fence:{s}
-- Returns {1, what it replaced} or {0, what stands}. From here no older writer's script writes.
local held = redis.call('GET', KEYS[1])
if held then
  local high = tonumber(string.match(held, '^(%d+):'))
  local mine = tonumber(string.match(ARGV[1], '^(%d+):'))
  -- A fence of one's own number under another nonce is an earlier call of the same turn: replaced.
  if high > mine then return {0, held} end
end
redis.call('SET', KEYS[1], ARGV[1])
return {1, held or ''}
