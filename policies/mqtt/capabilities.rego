# METADATA
# title: Who may call what on which device
# description: |
#   A call's topic says it all: `v1/{site}/call/{target}/{capability}/{caller}`. Who may call stands
#   in `data.acl.capabilities`, by the target's kind and the capability: role names, or one caller's
#   own level (`cloud:operator:ann`). `*` is every capability that has no line of its own. What
#   `data.acl.capabilities_of_devices` says of one device (`building-1/hvac-001`) stands instead.
package mqtt.capabilities

# The parts of a call's topic; undefined for every other topic.
of_topic(topic) := {
	"site": levels[1],
	"target": levels[3],
	"capability": levels[4],
	"caller": levels[5],
} if {
	is_string(topic)
	levels := split(topic, "/")
	count(levels) == 6
	levels[2] == "call"
}

# May somebody of this role, who is this level on topics, make this call?
permitted(asked, role, _) if role in callers(asked)

permitted(asked, _, level) if level in callers(asked)

callers(asked) := object.get(table, asked.capability, object.get(table, "*", [])) if {
	table := table_of(asked)
}

table_of(asked) := object.get(data.acl.capabilities_of_devices, device, of_kind) if {
	device := concat("/", [asked.site, asked.target])
	of_kind := object.get(data.acl.capabilities, asked.target, data.acl.capabilities.sensor)
}
