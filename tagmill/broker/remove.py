"""Take the messages of a run off the queue, which was cancelled, paused, or gets another priority."""

from collections.abc import Iterable

from celery import Celery

from tagmill.broker.publish import open_channel, shown_run
from tagmill.priority import STEPS

#: messages that Redis looks at in one step, which takes it a few milliseconds; others are served between two steps
STEP = 500

#: Takes up to ARGV[2] messages off the old end of a list and puts those that lack ARGV[1] on its new end, in one step
#: of Redis: whenever the caller dies, no message is lost. Returns how many were looked at, and how many were removed.
_REMOVE = """
local seen, removed = 0, 0
while seen < tonumber(ARGV[2]) and removed < tonumber(ARGV[3]) do
    local message = redis.call('RPOP', KEYS[1])
    if not message then break end
    seen = seen + 1
    if string.find(message, ARGV[1], 1, true) then
        removed = removed + 1
    else
        redis.call('LPUSH', KEYS[1], message)
    end
end
return {seen, removed}
"""


def remove_messages(app: Celery, queue: str, run_id: int, most: int = 2**31, steps: Iterable[int] = STEPS) -> int:
    """Take the messages of a run off these steps of its queue, at most `most` of them; return how many.

    Messages of other runs stay; some are served later than they would have been. Raise kombu's OperationalError if the
    broker is down. A broker in this process has no messages of others, so nothing is done for it.
    """
    removed = 0
    with open_channel(app) as channel:
        if not hasattr(channel, "client"):
            return 0
        step = channel.client.register_script(_REMOVE)
        for key in (channel._q_for_pri(queue, number) for number in steps):
            left = channel.client.llen(key)
            while left > 0 and removed < most:
                seen, found = step(keys=[key], args=[shown_run(run_id), min(STEP, left), most - removed])
                removed += found
                left = left - seen if seen else 0
    return removed
