package mqtt.topics_test

import data.mqtt.topics

test_names if {
	every name in ["a", "/", "a//b", "v1/building-1/telemetry/hvac-001", "ä/ß"] {
		topics.valid_name(name)
	}
	every name in ["", "#", "a/+", "a+b", "$SYS/x", "a\u0000", long, deep, 7, null] {
		not topics.valid_name(name)
	}
}

test_filters if {
	every filter in ["#", "+", "/", "+/+", "a/#", "+/a/#", "//", "$SYS/#", "a/+/b"] {
		topics.valid_filter(filter)
	}
	every filter in ["", "##", "#/a", "a#", "a/#/b", "a+", "+a", "a/+b/c", "a\u0000", long, deep, 7] {
		not topics.valid_filter(filter)
	}
}

long := concat("", ["x" | some _ in numbers.range(1, 1025)])

deep := concat("/", ["x" | some _ in numbers.range(1, 17)])

test_shared_subscriptions if {
	topics.unshare("$share/g/a/+") == "a/+"
	topics.unshare("$share/g//") == "/"
	topics.unshare("a/b") == "a/b"
	topics.unshare("$shared/g/a") == "$shared/g/a"
	not topics.unshare("$share")
	not topics.unshare("$share/g")
	not topics.unshare("$share//a")
	not topics.unshare("$share/#/a")
}

test_covers if {
	every pair in [
		["a/b", "a/b"],
		["a/+", "a/b"],
		["a/+", "a/+"],
		["a/+", "a/"],
		["a/#", "a"],
		["a/#", "a/b/+"],
		["#", "a/#"],
		["+/+", "/"],
		["$SYS/#", "$SYS/broker/x"],
	] {
		topics.covers(pair[0], pair[1])
	}
	every pair in [
		["a/b", "a/c"],
		["a/b", "a/+"],
		["a/+", "a/#"],
		["a/+", "a/b/c"],
		["a/+", "a"],
		["a/b/#", "a/#"],
		["#", "$SYS/x"],
		["+/x", "$SYS/x"],
		["a/{cloud}", "a/{cloud}"],
	] {
		not topics.covers(pair[0], pair[1])
	}
}

test_levels_of_building_and_cloud if {
	topics.covers("a/{building}", "a/hvac-001")
	topics.covers("a/{cloud}", "a/cloud:ota")
	every asked in ["a/cloud:ota", "a/+", "a/#", "a/", "a/b/c"] {
		not topics.covers("a/{building}", asked)
	}
	every asked in ["a/hvac-001", "a/+", "a/#", "a/"] {
		not topics.covers("a/{cloud}", asked)
	}
}

test_levels_of_one_sites_domains if {
	topics.covers("a/{domain:building-1}", "a/building-1.smart.local")
	topics.covers("a/{domain:building-1}", "a/building-1")
	every asked in [
		"a/building-10.smart.local", "a/building-2.smart.local", "a/cloud", "a/+", "a/#", "a/",
		"a/smart-building.cloud", "a/b/building-1",
	] {
		not topics.covers("a/{domain:building-1}", asked)
	}
	not topics.covers("a/{domain:cloud}", "a/cloud")
}
