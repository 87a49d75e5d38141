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

local function clear_bucket(b)
  for _, reference in ipairs(redis.call('HVALS', b.parts)) do
    for _, name in ipairs(part_names(b, reference)) do redis.call('UNLINK', name) end
  end
  redis.call('UNLINK', b.records, b.kept, b.ttl, b.parts)
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

-- KEYS: buckets; ('gone': others may have the store open, or '')
local function destroy(keys, args)
  for _, b in ipairs(buckets(keys)) do
    clear_bucket(b)
    redis.call('DEL', b.state, b.waits)
    if args[1] ~= '' then redis.call('SET', b.state, args[1], 'PX', GONE_MS) end
  end
  return 1
end

-- KEYS: buckets -> bytes of memory
local function usage(keys)
  local bytes = 0
  for _, name in ipairs(keys) do bytes = bytes + (redis.call('MEMORY', 'USAGE', name) or 0) end
  for _, b in ipairs(buckets(keys)) do
    for _, reference in ipairs(redis.call('HVALS', b.parts)) do
      bytes = bytes + tonumber(string.match(reference, '(%d+)$'))
    end
  end
  return bytes
end

-- Somebody waits for a key of the bucket: for a while, puts look for whom.
local function announce(keys)
  local b = bucket(keys, 1)
  local refused = gone(b)
  if refused then return refused end
  redis.call('SET', b.waits, '', 'PX', WAITS_MS)
  return 1
end

-- A queue is one bucket with names of its own; where the names of a dictionary's parts and state
-- stand, so do a queue's.

local function line(keys)
  return {messages = keys[1], state = keys[2], unfinished = keys[3], takers = keys[4],
          records = keys[1], parts = keys[5], putters = keys[6]}
end

-- Each of so many waiters gets word; those that have died since are passed over.
local function wake_some(b, waiters, number)
  while number > 0 do
    local waiter = redis.call('LPOP', waiters)
    if not waiter then return end
    number = number - redis.call('SPUBLISH', b.messages .. ':' .. waiter, '')
  end
end

-- (maxsize, joinable, {parts, record}...) -> how many were put
local function put_messages(keys, args)
  local b = line(keys)
  local refused = refusal(b)
  if refused then return refused end
  local number = (#args - 2) / 2
  local maxsize = tonumber(args[1])
  if maxsize > 0 then number = math.min(number, maxsize - redis.call('LLEN', b.messages)) end
  if number <= 0 then return 0 end
  for at = 3, 2 * number + 1, 2 do
    if args[at] ~= '' and not all_there(b, args[at]) then return lost_parts() end
  end
  for at = 3, 2 * number + 1, 2 do
    if args[at] ~= '' then
      redis.call('HSET', b.parts, string.match(args[at], '^%x+'), args[at])
      for _, name in ipairs(part_names(b, args[at])) do redis.call('PERSIST', name) end
    end
    redis.call('RPUSH', b.messages, args[at + 1])
  end
  if args[2] ~= '' then redis.call('INCRBY', b.unfinished, number) end
  wake_some(b, b.takers, number)
  return number
end

local function hexadecimal(bytes)
  return (string.gsub(bytes, '.', function(byte) return string.format('%02x', string.byte(byte)) end))
end

-- (limit, maxsize) -> records, or nothing
local function take_messages(keys, args)
  local b = line(keys)
  local records = redis.call('LPOP', b.messages, args[1])
  if not records then return gone(b) end
  if redis.call('EXISTS', b.parts) == 1 then
    for _, record in ipairs(records) do
      if string.sub(record, 1, 1) == MARK then
        drop_parts(b, hexadecimal(string.sub(record, 3, TOKEN_BYTES)), true)
      end
    end
  end
  if args[2] ~= '0' then wake_some(b, b.putters, #records) end
  return records
end

-- (which: 'messages' or 'unfinished') -> how many
local function count_messages(keys, args)
  local b = line(keys)
  local refused = gone(b)
  if refused then return refused end
  if args[1] == 'messages' then return redis.call('LLEN', b.messages) end
  return tonumber(redis.call('GET', b.unfinished) or 0)
end

-- (number) -> 1, or 0: so many were not unfinished
local function done_messages(keys, args)
  local b = line(keys)
  local refused = gone(b)
  if refused then return refused end
  if tonumber(redis.call('GET', b.unfinished) or 0) < tonumber(args[1]) then return 0 end
  if redis.call('DECRBY', b.unfinished, args[1]) == 0 then
    redis.call('SPUBLISH', b.messages .. ':finished', '')
  end
  return 1
end

-- (waiter, maxsize or 0 to wait for a message) -> 1: no need to wait; 0: it stands in the line
local function await(keys, args)
  local b = line(keys)
  local refused = gone(b)
  if refused then return refused end
  local number, maxsize, waiters = redis.call('LLEN', b.messages), tonumber(args[2]), b.takers
  if maxsize > 0 then waiters = b.putters end
  if (maxsize > 0 and number < maxsize) or (maxsize == 0 and number > 0) then return 1 end
  if not redis.call('LPOS', waiters, args[1]) then redis.call('RPUSH', waiters, args[1]) end
  return 0
end

-- (waiter)
local function leave(keys, args)
  local b = line(keys)
  redis.call('LREM', b.takers, 0, args[1])
  redis.call('LREM', b.putters, 0, args[1])
  return 1
end

-- KEYS: what a store is, and the set of who has it open; (member, lease in ms) -> what it is, or nothing
local function open_store(keys, args)
  local about = redis.call('HGETALL', keys[1])
  if #about == 0 then return false end
  redis.call('SADD', keys[2], args[1])
  if redis.call('HGET', keys[1], 'name') == '' then
    redis.call('PEXPIRE', keys[1], args[2])
    redis.call('PEXPIRE', keys[2], args[2])
  else
    redis.call('PERSIST', keys[1])
  end
  return about
end

-- KEYS: as open_store; (members...) -> 1: it has just ended, and its buckets are to be removed
local function close_store(keys, args)
  redis.call('SREM', keys[2], unpack(args))
  if redis.call('SCARD', keys[2]) > 0 then return 0 end
  local name = redis.call('HGET', keys[1], 'name')
  if name and name ~= '' then return 0 end
  return redis.call('DEL', keys[1])   -- 0: it was destroyed
end

-- KEYS: the name; (id) -> the id that it has now
local function name_store(keys, args)
  redis.call('SET', keys[1], args[1], 'NX')
  return redis.call('GET', keys[1])
end

-- KEYS: the name; (id)
local function unname_store(keys, args)
  if redis.call('GET', keys[1]) == args[1] then redis.call('DEL', keys[1]) end
  return 1
end

local function register(name, callback, flags)
  redis.register_function{function_name = 'alamo_VERSION_' .. name, callback = callback, flags = flags}
end

-- What only removes may run when the memory is full, or there would be no way back.
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
register('destroy', destroy, {'allow-oom'})
register('usage', usage, {'allow-oom'})
register('announce', announce, {'allow-oom'})
register('open_store', open_store, {'allow-oom'})
register('close_store', close_store, {'allow-oom'})
register('name_store', name_store)
register('unname_store', unname_store, {'allow-oom'})
register('put_messages', put_messages)
register('take_messages', take_messages, {'allow-oom'})
register('count_messages', count_messages, {'allow-oom'})
register('done_messages', done_messages, {'allow-oom'})
register('await', await, {'allow-oom'})
register('leave', leave, {'allow-oom'})
