-- Commits one batch of a shard, if its writer still is the writer.
--
-- KEYS[1] fence:{s}, KEYS[2] ledger:{s}; then, a group (one user) after the other: the record's key,
--   the idempotency key of each keyed check.
-- ARGV[1] this writer's `<fence>:<nonce>`, ARGV[2] its fence, ARGV[3] valid_from, ARGV[4] groups;
--   then a group after the other: record ('' when nothing was admitted), packed ledger entry ('' likewise),
--   number of keyed checks, and of each: outcome ('' when it was denied), expiry in seconds.
--
-- Returns {'fenced'}, or {seq or '', replayed…}: of each group with a known key its number (from 0),
-- then what is known of each keyed check ('' = nothing). Of such a group nothing was written.
-- Scripts do not roll back: everything that can fail stands before the first write, and XADD, which
-- alone could fail, is that first write.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'fenced'} end
local valid_from = tonumber(ARGV[3])
local key, arg = 3, 5
local sets, entries, outcomes, replayed = {}, {}, {}, {''}

for group = 0, tonumber(ARGV[4]) - 1 do
  local record_key, record, entry, keyed = KEYS[key], ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2])
  local known = nil
  for n = 1, keyed do
    local held = redis.call('GET', KEYS[key + n])
    -- An outcome of a fence below valid_from belongs to a life that is not believed.
    if held and struct.unpack('>I8', held) >= valid_from then
      if not known then
        known = {group}
        for m = 1, keyed do known[m + 1] = '' end
      end
      known[n + 1] = held
    end
  end
  if known then
    for m = 1, keyed + 1 do replayed[#replayed + 1] = known[m] end
  elseif record ~= '' then
    sets[#sets + 1] = record_key
    sets[#sets + 1] = record
    entries[#entries + 1] = entry
    for n = 1, keyed do
      if ARGV[arg + 1 + 2 * n] ~= '' then
        outcomes[#outcomes + 1] = {KEYS[key + n], ARGV[arg + 1 + 2 * n], ARGV[arg + 2 + 2 * n]}
      end
    end
  end
  key = key + 1 + keyed
  arg = arg + 3 + 2 * keyed
end

if #sets > 0 then
  local id = redis.call('XADD', KEYS[2], ARGV[2] .. '-*', 'b', table.concat(entries))
  redis.call('MSET', unpack(sets))
  for _, outcome in ipairs(outcomes) do
    redis.call('SET', outcome[1], outcome[2], 'EX', outcome[3])
  end
  replayed[1] = string.match(id, '-(%d+)$')
end
return replayed
