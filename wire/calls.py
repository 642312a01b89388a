"""A call as who is called reads it, and the answer as it goes back: one place for both rules.

Who asks stands in the topic, where the broker has checked it; a reply goes to that caller's own
topic and nowhere else.
"""

from dataclasses import dataclass
from typing import Any

from plantroom.wire import envelope, topics
from plantroom.wire.envelope import Call, Reply
from plantroom.wire.errors import RefusedError
from plantroom.wire.link import Message

PATTERN = "call/{target}/{capability}/{caller}"
REPLY_PATTERN = "reply/{caller}/{id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call: what is asked, by whom, of which site's topics."""

    site: str
    capability: str
    caller: str
    call: Call

    def answer(self, data: Any = None, *, error: str | None = None) -> Message:
        """Return the answer to publish."""
        reply = Reply(id=self.call.id, data=data, error=error)
        return Message(
            topic=topics.build(REPLY_PATTERN, self.site, self.caller, self.call.id),
            payload=envelope.encode(reply),
            content_type=envelope.CONTENT_TYPE,
        )


def read(message: Message) -> Asked:
    """Read a call.

    Raises:
        EnvelopeError: when it is none.
        RefusedError: when its reply would go elsewhere than to its caller.
        TopicError: when its id or caller can be no level of a topic.
    """
    topic = topics.parse(message.topic)
    _, capability, caller = topic.names
    call: Call = envelope.decode(message.payload, Call)
    if call.reply_to != topics.build(REPLY_PATTERN, topic.site, caller, call.id):
        raise RefusedError(
            "a call's reply goes to its caller alone", reason="reply-to", where=message.topic
        )
    return Asked(site=topic.site, capability=capability, caller=caller, call=call)
