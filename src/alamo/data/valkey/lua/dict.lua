-- Dictionaries.

local function remove(b, key, readable)
  local removed = redis.call('HDEL', b.records, key)
  redis.call('HDEL', b.kept, key)
  redis.call('ZREM', b.ttl, key)
  drop_parts(b, key, readable)
  return removed
end

-- An entry whose time is over is removed before anybody can see it.
local function expire(b, key)
  local ends_ms = redis.call('ZSCORE', b.ttl, key)
  if ends_ms and tonumber(ends_ms) <= now_ms() then remove(b, key) end
end

local function expire_all(b)
  if redis.call('EXISTS', b.ttl) == 0 then return end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', b.ttl, '-inf', now_ms())) do
    remove(b, key)
  end
end

local function wake(b, key)
  if redis.call('EXISTS', b.waits) == 1 then redis.call('SPUBLISH', b.records .. ':' .. key, '') end
end

-- ttl: milliseconds, '' for none, 'keep' for that of the entry. parts: '' or their reference.
local function store(b, key, kept, ttl, parts, record)
  drop_parts(b, key)
  if redis.call('HSET', b.records, key, record) == 1 and kept ~= '' then
    redis.call('HSET', b.kept, key, kept)
  end
  if ttl == '' then
    redis.call('ZREM', b.ttl, key)
  elseif ttl ~= 'keep' then
    redis.call('ZADD', b.ttl, now_ms() + ttl, key)
  end
  if parts ~= '' then
    redis.call('HSET', b.parts, key, parts)
    for _, name in ipairs(part_names(b, parts)) do redis.call('PERSIST', name) end
  end
  wake(b, key)
end

-- (key, record) or (key, kept, ttl, parts, record) -> 1
local function put(keys, args)
  local key, record = args[1], args[#args]
  if #args == 2 and bare(keys) then
    redis.call('HSET', keys[1], key, record)
    return 1
  end
  local b = bucket(keys, 1)
  local refused = refusal(b)
  if refused then return refused end
  expire(b, key)
  if #args == 2 then
    store(b, key, '', '', '', record)
  else
    if args[4] ~= '' and not all_there(b, args[4]) then return lost_parts() end
    store(b, key, args[2], args[3], args[4], record)
  end
  return 1
end

-- (key, kept, ttl, parts, record) -> the record that is there, or nothing: stored
local function add(keys, args)
  local b, key = bucket(keys, 1), args[1]
  expire(b, key)
  local there = redis.call('HGET', b.records, key)
  if there then return there end
  local refused = refusal(b)
  if refused then return refused end
  if args[4] ~= '' and not all_there(b, args[4]) then return lost_parts() end
  store(b, key, args[2], args[3], args[4], args[5])
  return false
end

-- (key) -> how many were removed
local function delete(keys, args)
  local key = args[1]
  if bare(keys) then return redis.call('HDEL', keys[1], key) end
  local b = bucket(keys, 1)
  local refused = refusal(b)
  if refused then return refused end
  expire(b, key)
  return remove(b, key)
end

-- (key) -> record or nothing
local function pop(keys, args)
  local b, key = bucket(keys, 1), args[1]
  local refused = refusal(b)
  if refused then return refused end
  expire(b, key)
  local record = redis.call('HGET', b.records, key)
  if record then remove(b, key, true) end
  return record
end

-- KEYS: buckets -> {key, kept, record} or nothing
local function pop_any(keys)
  for _, b in ipairs(buckets(keys)) do
    local refused = refusal(b)
    if refused then return refused end
    expire_all(b)
    local key = redis.call('HRANDFIELD', b.records)
    if key then
      local record = redis.call('HGET', b.records, key)
      local kept = redis.call('HGET', b.kept, key)
      remove(b, key, true)
      return {key, kept or '', record}
    end
  end
  return false
end

-- (key) -> whether the entry is there and its time is not over
local function alive(keys, args)
  local b = bucket(keys, 1)
  expire(b, args[1])
  return redis.call('HEXISTS', b.records, args[1])
end

-- '' stands for: no such key. A token that begins with the mark is how the record begins.
local function holds(b, key, token)
  expire(b, key)
  local record = redis.call('HGET', b.records, key)
  if not record then return token == '' end
  if string.sub(token, 1, 1) == MARK then record = string.sub(record, 1, TOKEN_BYTES) end
  return record == token
end

-- (checks, writes, {bucket, key, token}..., {bucket, key, action, kept, ttl, parts, record}...)
-- -> 1, or 0: a key no longer holds what was seen, and nothing has changed
local function commit(keys, args)
  local checks, writes = tonumber(args[1]), tonumber(args[2])
  for at = 3, 2 + 3 * checks, 3 do
    if not holds(bucket(keys, tonumber(args[at])), args[at + 1], args[at + 2]) then return 0 end
  end
  local first, last = 3 + 3 * checks, 2 + 3 * checks + 7 * writes
  for at = first, last, 7 do
    local b = bucket(keys, tonumber(args[at]))
    local refused = refusal(b)
    if refused then return refused end
    if args[at + 5] ~= '' and not all_there(b, args[at + 5]) then return lost_parts() end
  end
  for at = first, last, 7 do
    local b, key = bucket(keys, tonumber(args[at])), args[at + 1]
    expire(b, key)
    if args[at + 2] == 'replace' then remove(b, key) end
    if args[at + 2] ~= 'delete' then
      store(b, key, args[at + 3], args[at + 4], args[at + 5], args[at + 6])
    else
      remove(b, key)
    end
  end
  return 1
end

-- KEYS: buckets -> how many keys
local function count(keys)
  local sum = 0
  for _, b in ipairs(buckets(keys)) do
    local refused = gone(b)
    if refused then return refused end
    expire_all(b)
    sum = sum + redis.call('HLEN', b.records)
  end
  return sum
end

-- -> {keys, {key, kept, key, kept...}}
local function list(keys)
  local b = bucket(keys, 1)
  local refused = gone(b)
  if refused then return refused end
  expire_all(b)
  return {redis.call('HKEYS', b.records), redis.call('HGETALL', b.kept)}
end

-- (bytes, key...) -> records of the first keys, as many as make up so many bytes
local function read(keys, args)
  local records, bytes = {}, tonumber(args[1])
  expire_all(bucket(keys, 1))
  for at = 2, #args do
    local record = redis.call('HGET', keys[1], args[at])
    records[at - 1] = record
    bytes = bytes - (record and #record or 0)
    if bytes < 0 then break end
  end
  return records
end

-- KEYS: buckets
local function clear(keys)
  for _, b in ipairs(buckets(keys)) do
    local refused = refusal(b)
    if refused then return refused end
  end
  for _, b in ipairs(buckets(keys)) do clear_bucket(b) end
  return 1
end

-- KEYS: buckets; ('frozen' or '')
local function freeze(keys, args)
  for _, b in ipairs(buckets(keys)) do
    local refused = gone(b)
    if refused then return refused end
  end
  for _, b in ipairs(buckets(keys)) do
    if args[1] == '' then
      redis.call('DEL', b.state)
    else
      redis.call('SET', b.state, args[1])
    end
  end
  return 1
end

-- Somebody waits for a key of the bucket: for a while, puts look for whom.
local function announce(keys)
  local b = bucket(keys, 1)
  local refused = gone(b)
  if refused then return refused end
  redis.call('SET', b.waits, '', 'PX', WAITS_MS)
  return 1
end

register('put', put)
register('add', add)
register('commit', commit)
register('shrink', commit, {'allow-oom'})   -- a commit that only deletes
register('delete', delete, {'allow-oom'})
register('pop', pop, {'allow-oom'})
register('pop_any', pop_any, {'allow-oom'})
register('alive', alive, {'allow-oom'})
register('count', count, {'allow-oom'})
register('list', list, {'allow-oom'})
register('read', read, {'allow-oom'})
register('clear', clear, {'allow-oom'})
register('freeze', freeze, {'allow-oom'})
register('announce', announce, {'allow-oom'})
