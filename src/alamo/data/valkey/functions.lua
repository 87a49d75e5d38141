#!lua name=alamo_VERSION

-- What a DDict and a Queue do on the server, each function as one.  KEYS are bases: the names of
-- buckets' hashes, of queues' lists, of records about stores.  All other names are made of a base, so
-- they have its hash tag and lie in its slot.

local MARK = string.char(0xF1)
local TOKEN_BYTES = 18
local GONE_MS = 86400000       -- how long a destroyed store is known to be gone
local ORPHAN_MS = 600000       -- how long parts stay that nothing refers to

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether a bucket has nothing but records: no key of another form, time to live, parts, state, waiter.
local function bare(base)
  return redis.call('EXISTS', base .. ':state', base .. ':kept', base .. ':ttl', base .. ':parts',
                    base .. ':waits') == 0
end

local function refusal(base)
  local state = redis.call('GET', base .. ':state')
  if state == 'gone' then return redis.error_reply('ALAMOGONE it has been destroyed') end
  if state then return redis.error_reply('ALAMOFROZEN it is frozen') end
end

local function part_names(base, reference)
  local id, count = string.match(reference, '^(%x+) (%d+)')
  local names = {}
  for part = 0, tonumber(count) - 1 do names[part + 1] = base .. ':' .. id .. ':' .. part end
  return names
end

-- Parts are removed, or left for a while to one who is about to read them.
local function drop_parts(base, key, readable)
  local reference = redis.call('HGET', base .. ':parts', key)
  if not reference then return end
  redis.call('HDEL', base .. ':parts', key)
  for _, name in ipairs(part_names(base, reference)) do
    if readable then redis.call('PEXPIRE', name, ORPHAN_MS) else redis.call('UNLINK', name) end
  end
end

local function all_there(base, reference)
  for _, name in ipairs(part_names(base, reference)) do
    if redis.call('EXISTS', name) == 0 then return false end
  end
  return true
end

local function lost_parts()
  return redis.error_reply('ALAMOLOST parts of the value are gone: writing them took too long')
end

local function remove(base, key, readable)
  local removed = redis.call('HDEL', base, key)
  redis.call('HDEL', base .. ':kept', key)
  redis.call('ZREM', base .. ':ttl', key)
  drop_parts(base, key, readable)
  return removed
end

-- An entry whose time is over is removed before anybody can see it.
local function expire(base, key)
  local ends_ms = redis.call('ZSCORE', base .. ':ttl', key)
  if ends_ms and tonumber(ends_ms) <= now_ms() then remove(base, key) end
end

local function expire_all(base)
  if redis.call('EXISTS', base .. ':ttl') == 0 then return end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. ':ttl', '-inf', now_ms())) do
    remove(base, key)
  end
end

local function wake(base, key)
  if redis.call('EXISTS', base .. ':waits') == 1 then redis.call('SPUBLISH', base .. ':' .. key, '') end
end

-- ttl: milliseconds, '' for none, 'keep' for that of the entry. parts: '' or their reference.
local function store(base, key, kept, ttl, parts, record)
  drop_parts(base, key)
  if redis.call('HSET', base, key, record) == 1 and kept ~= '' then
    redis.call('HSET', base .. ':kept', key, kept)
  end
  if ttl == '' then
    redis.call('ZREM', base .. ':ttl', key)
  elseif ttl ~= 'keep' then
    redis.call('ZADD', base .. ':ttl', now_ms() + ttl, key)
  end
  if parts ~= '' then
    redis.call('HSET', base .. ':parts', key, parts)
    for _, name in ipairs(part_names(base, parts)) do redis.call('PERSIST', name) end
  end
  wake(base, key)
end

-- (key, record) or (key, kept, ttl, parts, record) -> 1
local function put(keys, args)
  local base, key, record = keys[1], args[1], args[#args]
  if #args == 2 and bare(base) then
    redis.call('HSET', base, key, record)
    return 1
  end
  local refused = refusal(base)
  if refused then return refused end
  expire(base, key)
  if #args == 2 then
    store(base, key, '', '', '', record)
  else
    if args[4] ~= '' and not all_there(base, args[4]) then return lost_parts() end
    store(base, key, args[2], args[3], args[4], record)
  end
  return 1
end

-- (key, kept, ttl, parts, record) -> the record that is there, or nothing: stored
local function add(keys, args)
  local base, key = keys[1], args[1]
  expire(base, key)
  local there = redis.call('HGET', base, key)
  if there then return there end
  local refused = refusal(base)
  if refused then return refused end
  if args[4] ~= '' and not all_there(base, args[4]) then return lost_parts() end
  store(base, key, args[2], args[3], args[4], args[5])
  return false
end

-- (key) -> how many were removed
local function delete(keys, args)
  local base, key = keys[1], args[1]
  if bare(base) then return redis.call('HDEL', base, key) end
  local refused = refusal(base)
  if refused then return refused end
  expire(base, key)
  return remove(base, key)
end

-- (key) -> record or nothing
local function pop(keys, args)
  local base, key = keys[1], args[1]
  local refused = refusal(base)
  if refused then return refused end
  expire(base, key)
  local record = redis.call('HGET', base, key)
  if record then remove(base, key, true) end
  return record
end

-- KEYS: buckets -> {key, kept, record} or nothing
local function pop_any(keys)
  for _, base in ipairs(keys) do
    local refused = refusal(base)
    if refused then return refused end
    expire_all(base)
    local key = redis.call('HRANDFIELD', base)
    if key then
      local record = redis.call('HGET', base, key)
      local kept = redis.call('HGET', base .. ':kept', key)
      remove(base, key, true)
      return {key, kept or '', record}
    end
  end
  return false
end

-- (key) -> whether the entry is there and its time is not over
local function alive(keys, args)
  expire(keys[1], args[1])
  return redis.call('HEXISTS', keys[1], args[1])
end

-- '' stands for: no such key. A token that begins with the mark is how the record begins.
local function holds(base, key, token)
  expire(base, key)
  local record = redis.call('HGET', base, key)
  if not record then return token == '' end
  if string.sub(token, 1, 1) == MARK then record = string.sub(record, 1, TOKEN_BYTES) end
  return record == token
end

-- (checks, writes, {bucket, key, token}..., {bucket, key, 'put' or 'delete', kept, ttl, parts, record}...)
-- -> 1, or 0: a key no longer holds what was seen, and nothing has changed
local function commit(keys, args)
  local checks, writes = tonumber(args[1]), tonumber(args[2])
  for at = 3, 2 + 3 * checks, 3 do
    if not holds(keys[tonumber(args[at])], args[at + 1], args[at + 2]) then return 0 end
  end
  local first, last = 3 + 3 * checks, 2 + 3 * checks + 7 * writes
  for at = first, last, 7 do
    local base = keys[tonumber(args[at])]
    local refused = refusal(base)
    if refused then return refused end
    if args[at + 5] ~= '' and not all_there(base, args[at + 5]) then return lost_parts() end
  end
  for at = first, last, 7 do
    local base, key = keys[tonumber(args[at])], args[at + 1]
    expire(base, key)
    if args[at + 2] == 'put' then
      store(base, key, args[at + 3], args[at + 4], args[at + 5], args[at + 6])
    else
      remove(base, key)
    end
  end
  return 1
end

-- KEYS: buckets -> how many keys
local function count(keys)
  local sum = 0
  for _, base in ipairs(keys) do
    expire_all(base)
    sum = sum + redis.call('HLEN', base)
  end
  return sum
end

-- -> {keys, {key, kept, key, kept...}}
local function list(keys)
  expire_all(keys[1])
  return {redis.call('HKEYS', keys[1]), redis.call('HGETALL', keys[1] .. ':kept')}
end

-- (bytes, key...) -> records of the first keys, as many as make up so many bytes
local function read(keys, args)
  local records, bytes = {}, tonumber(args[1])
  expire_all(keys[1])
  for at = 2, #args do
    local record = redis.call('HGET', keys[1], args[at])
    records[at - 1] = record
    bytes = bytes - (record and #record or 0)
    if bytes < 0 then break end
  end
  return records
end

local function clear_bucket(base)
  for _, reference in ipairs(redis.call('HVALS', base .. ':parts')) do
    for _, name in ipairs(part_names(base, reference)) do redis.call('UNLINK', name) end
  end
  redis.call('UNLINK', base, base .. ':kept', base .. ':ttl', base .. ':parts')
end

-- KEYS: buckets
local function clear(keys)
  for _, base in ipairs(keys) do
    local refused = refusal(base)
    if refused then return refused end
  end
  for _, base in ipairs(keys) do clear_bucket(base) end
  return 1
end

-- KEYS: buckets; ('frozen' or '')
local function freeze(keys, args)
  for _, base in ipairs(keys) do
    if redis.call('GET', base .. ':state') == 'gone' then return refusal(base) end
  end
  for _, base in ipairs(keys) do
    if args[1] == '' then
      redis.call('DEL', base .. ':state')
    else
      redis.call('SET', base .. ':state', args[1])
    end
  end
  return 1
end

-- KEYS: buckets
local function destroy(keys)
  for _, base in ipairs(keys) do
    clear_bucket(base)
    redis.call('SET', base .. ':state', 'gone', 'PX', GONE_MS)
  end
  return 1
end

local function register(name, callback, flags)
  redis.register_function{function_name = 'alamo_VERSION_' .. name, callback = callback, flags = flags}
end

-- What only removes may run when the memory is full, or there would be no way back.
register('put', put)
register('add', add)
register('commit', commit)
register('delete', delete, {'allow-oom'})
register('pop', pop, {'allow-oom'})
register('pop_any', pop_any, {'allow-oom'})
register('alive', alive, {'allow-oom'})
register('count', count, {'allow-oom'})
register('list', list, {'allow-oom'})
register('read', read, {'allow-oom'})
register('clear', clear, {'allow-oom'})
register('freeze', freeze, {'allow-oom'})
register('destroy', destroy, {'allow-oom'})
