#!lua name=alamo_VERSION

-- What a DDict and a Queue do on the server, each function as one.
--
-- KEYS are buckets, six names each (the package's docstring has them), and all that a function
-- touches is among them, so that a server whose slots are on the move sends it where they are.
-- Only the names of parts are made here; they have the hash tag of their bucket.

local MARK = '\241'            -- F1; there is no string.char while the library is loaded
local TOKEN_BYTES = 18
local NAMES = 6
local GONE_MS = 3600000        -- how long those who have a destroyed store open are told
local WAITS_MS = 5000
local ORPHAN_MS = 600000       -- how long parts stay that nothing refers to

local function bucket(keys, number)
  local at = NAMES * (number - 1)
  return {records = keys[at + 1], state = keys[at + 2], kept = keys[at + 3], ttl = keys[at + 4],
          parts = keys[at + 5], waits = keys[at + 6]}
end

local function buckets(keys)
  local all = {}
  for number = 1, #keys / NAMES do all[number] = bucket(keys, number) end
  return all
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether a bucket has nothing but records: no state, kept key, time to live, parts, waiter.
local function bare(keys)
  return redis.call('EXISTS', keys[2], keys[3], keys[4], keys[5], keys[6]) == 0
end

local function refusal(b)
  local state = redis.call('GET', b.state)
  if state == 'gone' then return redis.error_reply('ALAMOGONE it has been destroyed') end
  if state then return redis.error_reply('ALAMOFROZEN it is frozen') end
end

-- The refusal of what only reads.
local function gone(b)
  if redis.call('GET', b.state) == 'gone' then return refusal(b) end
end

local function part_names(b, reference)
  local id, count = string.match(reference, '^(%x+) (%d+)')
  local names = {}
  for part = 0, tonumber(count) - 1 do names[part + 1] = b.records .. ':' .. id .. ':' .. part end
  return names
end

-- Parts are removed, or left for a while to one who is about to read them.
local function drop_parts(b, key, readable)
  local reference = redis.call('HGET', b.parts, key)
  if not reference then return end
  redis.call('HDEL', b.parts, key)
  for _, name in ipairs(part_names(b, reference)) do
    if readable then redis.call('PEXPIRE', name, ORPHAN_MS) else redis.call('UNLINK', name) end
  end
end

local function all_there(b, reference)
  for _, name in ipairs(part_names(b, reference)) do
    if redis.call('EXISTS', name) == 0 then return false end
  end
  return true
end

local function lost_parts()
  return redis.error_reply('ALAMOLOST parts of the value are gone: writing them took too long')
end

-- What may run when the memory is full is said by flags: what only removes, or there would be no way
-- back.
local function register(name, callback, flags)
  redis.register_function{function_name = 'alamo_VERSION_' .. name, callback = callback, flags = flags}
end
