"""Topic names and topic filters (MQTT 4.7): what is valid, and how `$share` is taken apart."""

from collections.abc import Iterable
from typing import Protocol

from plantroom.broker.codes import Code
from plantroom.broker.errors import LimitError, MalformedError, ProtocolError

SHARE = "$share/"


class TopicLimits(Protocol):
    """How large a topic name or filter may be."""

    @property
    def topic_levels_max(self) -> int:
        """Levels."""
        ...

    @property
    def topic_bytes_max(self) -> int:
        """Bytes."""
        ...


def check_size(topic: str, limits: TopicLimits) -> None:
    """Check a topic name or filter against the broker's limits.

    Raises:
        LimitError: when it is too long or too deep.
    """
    if topic.count("/") >= limits.topic_levels_max:
        raise LimitError(
            f"more than {limits.topic_levels_max} levels",
            limit="topic_levels_max",
            code=Code.TOPIC_NAME_INVALID,
        )
    longest = limits.topic_bytes_max
    if len(topic) > longest or (4 * len(topic) > longest and len(topic.encode()) > longest):
        raise LimitError(
            f"longer than {longest} bytes",
            limit="topic_bytes_max",
            code=Code.TOPIC_NAME_INVALID,
        )


def check_name(topic: str, limits: TopicLimits) -> str:
    """Return a topic name that a client may publish to.

    Raises:
        MalformedError: when it is empty or has wildcards.
        LimitError: when it is too long or too deep.
    """
    # [MQTT-4.7.0-1], [MQTT-4.7.3-2]
    if not topic:
        raise ProtocolError("topic name is empty")  # [MQTT-4.7.3-1]
    if "#" in topic or "+" in topic:  # [MQTT-3.3.2-2]
        raise MalformedError("topic name has a wildcard", code=Code.TOPIC_NAME_INVALID)
    check_size(topic, limits)
    return topic


def filter_fault(topic_filter: str) -> str | None:
    """Say what is wrong with the form of a topic filter, or None."""
    if not topic_filter:
        return "topic filter is empty"  # [MQTT-4.7.3-1]
    if topic_filter.startswith(SHARE):
        group, _, topic_filter = topic_filter[len(SHARE) :].partition("/")
        if (
            not group or "+" in group or "#" in group or not topic_filter
        ):  # [MQTT-4.8.2-1], [MQTT-4.8.2-2]
            return "shared subscription is not $share/group/filter"
    levels = topic_filter.split("/")
    for number, level in enumerate(levels, 1):
        if "#" in level and (level != "#" or number != len(levels)):
            return "# is not the last level alone"  # [MQTT-4.7.1-1]
        if "+" in level and level != "+":
            return "+ is not a level alone"  # [MQTT-4.7.1-2]
    return None


def split_share(topic_filter: str) -> tuple[str, str]:
    """Return the share's group (empty if not shared) and the filter proper."""
    if topic_filter.startswith(SHARE):
        group, _, rest = topic_filter[len(SHARE) :].partition("/")
        return group, rest
    return "", topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether one filter matches one topic name (without the tree)."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:  # [MQTT-4.7.2-1]
        return False
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(levels) or level not in {"+", levels[number]}:
            return False
    return len(wanted) == len(levels)


def any_matches(topic_filters: Iterable[str], topic: str) -> bool:
    """Say whether any of a few filters matches."""
    return any(matches(topic_filter, topic) for topic_filter in topic_filters)
