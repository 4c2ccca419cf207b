"""Grants that all workers of a queue share, in Redis.

For each host there is one key, `QUEUE:host:HASH`, with what each process holds and until when, and the time of the next
free turn. One script reads and writes it, so that two processes are never granted the same. The key expires when nobody
asks any more, and an emptied Redis costs nothing: each process says again what it holds.
"""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

from tagmill.broker.redis_client import open_redis
from worker.sources.limits.grants import BLOCK_SECONDS, LEASE_SECONDS, Ask, Grant

#: seconds for which Redis may be silent
_TIMEOUT = 5.0

# Times are milliseconds of Redis's clock. Processes split the slots in equal parts: one that holds more than its part
# begins no requests until it does not, if another holds less. If there are fewer slots than processes, they take turns:
# who has waited longest is next. The rate is split by GCRA: a process reserves the turns from the next free one on.
_SCRIPT = """
local id, under_way, wanted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most, rate, turns = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local lease, block = tonumber(ARGV[7]), tonumber(ARGV[8])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000

-- Whatever else is in the key is dropped.
local function is_holder(found)
  if type(found) ~= 'table' then return false end
  for _, name in ipairs({'held', 'wanted', 'most', 'rate', 'ends', 'since'}) do
    if type(found[name]) ~= 'number' then return false end
  end
  return true
end
local valid, state = pcall(cjson.decode, redis.pcall('GET', KEYS[1]))
if not valid or type(state) ~= 'table' or type(state.holders) ~= 'table' then state = {holders = {}} end
if type(state.next) ~= 'number' then state.next = 0 end

local mine = is_holder(state.holders[id]) and state.holders[id] or {held = 0, since = now}
local others, held = {}, 0
for other, holder in pairs(state.holders) do
  if other == id or not is_holder(holder) or holder.ends <= now then
    state.holders[other] = nil
  else
    table.insert(others, holder)
    held = held + holder.held
    if holder.most > 0 and (most == 0 or holder.most < most) then most = holder.most end
    if holder.rate > 0 and (rate == 0 or holder.rate < rate) then rate = holder.rate end
  end
end

local slots, settled = wanted, 1
if most > 0 then
  local part, free = math.floor(most / (#others + 1)), math.max(most - held, 0)
  local short, before = 0, 0
  for _, holder in ipairs(others) do
    if holder.held < math.min(holder.wanted, math.max(part, 1)) then
      short = short + 1
      if holder.held == 0 and holder.since < mine.since then before = before + 1 end
    end
  end
  slots = math.min(wanted, free)
  if short > 0 then
    local allowed = part
    if part == 0 and mine.held == 0 and before < free then allowed = 1 end
    slots = math.min(slots, allowed)
  end
  if slots < math.min(wanted, math.max(part, 1)) or under_way > slots then settled = 0 end
end

local first, step = 0, 0
if rate > 0 and turns > 0 then
  step = 1000 / rate
  turns = math.min(turns, math.max(1, math.ceil(rate * block / 1000 / (#others + 1))))
  local ahead = state.next - now
  if ahead > 60000 + 2 * step * (#others + 1) then ahead = 0 end  -- the clock was set back
  first = math.max(ahead, 0)
  state.next = now + first + turns * step
else
  turns = 0
end

if wanted > 0 or under_way > 0 then
  local holding = math.max(slots, under_way)
  state.holders[id] = {
    held = holding, wanted = wanted, most = tonumber(ARGV[4]), rate = tonumber(ARGV[5]), ends = now + lease,
    since = holding > 0 and now or mine.since,
  }
end
local kept = math.ceil(math.max(lease, state.next - now))
redis.call('SET', KEYS[1], cjson.encode(state), 'PX', string.format('%d', kept))
return {slots, settled, tostring(first), tostring(step), turns}
"""
_SHA1 = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisGrants:
    """Grants for one process. One thread may ask at a time."""

    def __init__(self, url: str, queue: str) -> None:
        self._url = url
        self._queue = queue
        self._id = uuid.uuid4().hex[:16]
        self._opened: Redis | None = None

    def ask(self, asked: Sequence[Ask]) -> list[Grant]:
        """Ask for several hosts in one round trip. Raise the errors of redis-py."""
        client = self._client()
        try:
            return self._ask(client, asked)
        except NoScriptError:  # a new server
            client.script_load(_SCRIPT)
            return self._ask(client, asked)

    def _ask(self, client: Redis, asked: Sequence[Ask]) -> list[Grant]:
        with client.pipeline(transaction=False) as pipeline:
            for one in asked:
                pipeline.evalsha(_SHA1, 1, self.key_of(one.host), *self._arguments(one))
            return [_grant(*answer) for answer in pipeline.execute()]

    def key_of(self, host: str) -> str:
        """Return the key of a host."""
        return f"{self._queue}:host:{hashlib.sha256(host.encode()).hexdigest()[:32]}"

    def _arguments(self, one: Ask) -> list[Any]:
        limits = one.limits
        counts = (self._id, one.under_way, one.wanted, limits.concurrent, limits.rate, one.turns)
        return [*counts, int(1000 * LEASE_SECONDS), int(1000 * BLOCK_SECONDS)]

    def _client(self) -> Redis:
        if self._opened is None:
            self._opened = open_redis(self._url, _TIMEOUT)
        return self._opened


def _grant(slots: int, settled: int, first: bytes, step: bytes, turns: int) -> Grant:
    return Grant(slots, bool(settled), float(first) / 1000, float(step) / 1000, turns)
