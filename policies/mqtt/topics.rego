# METADATA
# title: MQTT topics
# description: |
#   Which names and filters are well formed, and when a granted filter covers everything that a
#   requested one can match (MQTT 3.1.1 and 5, section 4.7). Grants are templates of `data.acl`:
#   `{site}`, `{name}` and `{self}` have been filled in; `{building}` and `{cloud}` stand for one
#   concrete level that does not, or does, belong to the cloud; `{domain:building-1}` for the name
#   of a trust domain of that site.
package mqtt.topics

bytes_max := 1024

levels_max := 16

# A topic as clients may publish to: no wildcard, nothing below `$`.
valid_name(topic) if {
	sized(topic)
	not regex.match(`[#+\x00]`, topic) # [MQTT-3.3.2-2]
	not startswith(topic, "$")
}

# A topic filter: `+` and `#` stand alone in their level, `#` at the end. [MQTT-4.7.1-1..3]
valid_filter(filter) if {
	sized(filter)
	regex.match(`^([^#+\x00/]*|[+])(/([^#+\x00/]*|[+]))*(/#)?$`, filter)
}

valid_filter(filter) if filter == "#"

sized(topic) if {
	is_string(topic)
	topic != ""
	count(topic) <= bytes_max
	count(split(topic, "/")) <= levels_max
}

# `$share/group/filter` asks for `filter`; everything else asks for itself. [MQTT-4.8.2]
unshare(filter) := concat("/", array.slice(levels, 2, count(levels))) if {
	levels := split(filter, "/")
	levels[0] == "$share"
	count(levels) > 2
	regex.match(`^[^#+\x00]+$`, levels[1])
}

unshare(filter) := filter if {
	not startswith(filter, "$share/")
	filter != "$share"
}

# covers(grant, requested): every topic that `requested` matches is matched by `grant`.
# `grant` is a template filled in by `fill`; `requested` is a topic name or a filter.
covers(grant, requested) if {
	wanted := split(grant, "/")
	asked := split(requested, "/")
	dollar_alike(wanted[0], asked[0])
	levels_cover(wanted, asked)
}

levels_cover(wanted, asked) if {
	count(wanted) == count(asked)
	every i, level in wanted {
		level_covers(level, asked[i])
	}
}

levels_cover(wanted, asked) if {
	last := count(wanted) - 1
	wanted[last] == "#"
	count(asked) >= last
	every i, level in array.slice(wanted, 0, last) {
		level_covers(level, asked[i])
	}
}

level_covers(granted, asked) if {
	granted == asked
	not startswith(granted, "{")
}

level_covers("+", asked) if asked != "#"

level_covers("{building}", asked) if {
	concrete(asked)
	not data.mqtt.identity.of_cloud(asked)
}

level_covers("{cloud}", asked) if {
	concrete(asked)
	data.mqtt.identity.of_cloud(asked)
}

level_covers(granted, asked) if {
	startswith(granted, "{domain:")
	concrete(asked)
	not data.mqtt.identity.of_cloud(asked)
	split(asked, ".")[0] == trim_suffix(trim_prefix(granted, "{domain:"), "}")
}

concrete(level) if not level in {"+", "#", ""}

# A leading wildcard does not match a topic that begins with `$`. [MQTT-4.7.2-1]
dollar_alike(_, asked) if not startswith(asked, "$")

dollar_alike(wanted, asked) if wanted == asked
