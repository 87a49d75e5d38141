-- Queues.

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

register('put_messages', put_messages)
register('take_messages', take_messages, {'allow-oom'})
register('count_messages', count_messages, {'allow-oom'})
register('done_messages', done_messages, {'allow-oom'})
register('await', await, {'allow-oom'})
register('leave', leave, {'allow-oom'})
