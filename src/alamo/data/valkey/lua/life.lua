-- Stores of both kinds: who has one open, and its end.

local function clear_bucket(b)
  for _, reference in ipairs(redis.call('HVALS', b.parts)) do
    for _, name in ipairs(part_names(b, reference)) do redis.call('UNLINK', name) end
  end
  redis.call('UNLINK', b.records, b.kept, b.ttl, b.parts)
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

register('destroy', destroy, {'allow-oom'})
register('usage', usage, {'allow-oom'})
register('open_store', open_store, {'allow-oom'})
register('close_store', close_store, {'allow-oom'})
register('name_store', name_store)
register('unname_store', unname_store, {'allow-oom'})
