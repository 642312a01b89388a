package mqtt.capabilities_test

import data.mqtt.capabilities

test_the_parts_of_a_call if {
	capabilities.of_topic("v1/b/call/t/c/who") == {
		"site": "b",
		"target": "t",
		"capability": "c",
		"caller": "who",
	}
	every topic in ["", "v1/b/call/t/c", "v1/b/call/t/c/who/x", "v1/b/reply/t/c/who", 7] {
		not capabilities.of_topic(topic)
	}
}

asked(target, capability) := {
	"site": "building-1",
	"target": target,
	"capability": capability,
	"caller": "x",
}

test_a_kind_is_told_by_its_name_and_is_else_a_sensor if {
	capabilities.permitted(asked("hvac-001", "read_sensors"), "gateway", "gateway")
	capabilities.permitted(asked("gateway", "sync_to_cloud"), "operator", "cloud:operator:ann")
	capabilities.permitted(asked("ota", "check_update"), "sensor", "hvac-001")
	not capabilities.permitted(asked("hvac-001", "check_update"), "sensor", "hvac-001")
	not capabilities.permitted(asked("hvac-001", "read_sensors"), "inspector", "cloud:inspector:eve")
}

test_what_has_no_line_is_for_those_behind_the_star if {
	capabilities.permitted(asked("hvac-001", "blink"), "operator", "cloud:operator:ann")
	not capabilities.permitted(asked("hvac-001", "blink"), "gateway", "gateway")
	table := {"sensor": {"read_sensors": ["gateway"]}}
	not capabilities.permitted(asked("hvac-001", "blink"), "operator", "x") with data.acl.capabilities as table
}

test_without_tables_nobody_may_call if {
	not capabilities.permitted(asked("hvac-001", "read_sensors"), "gateway", "gateway") with data.acl as {}
}
