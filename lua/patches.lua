-- Keeps and drops patches of preferences that wait for Postgres.
-- KEYS[1] fence:{s}, KEYS[2] patches:{s}, a hash of patches by `<fence>-<n>`
-- ARGV[1] this writer's `<fence>:<nonce>`, ARGV[2] how many are kept; then of each its field and its value;
--   then the fields that go.
-- Returns 'fenced' or 'done'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local kept = tonumber(ARGV[2])
-- What alone can fail, for want of memory, comes first: scripts do not roll back.
for n = 0, kept - 1 do redis.call('HSET', KEYS[2], ARGV[3 + 2 * n], ARGV[4 + 2 * n]) end
for n = 3 + 2 * kept, #ARGV do redis.call('HDEL', KEYS[2], ARGV[n]) end
return 'done'
