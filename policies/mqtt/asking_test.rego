package mqtt.asking_test

import data.mqtt.asking

hvac := "spiffe://building-1.smart.local/agent/hvac-001"

other := "spiffe://building-1.smart.local/agent/hvac-002"

eve := "spiffe://smart-building.cloud/inspector/eve"

registry := {
	hvac: {"role": "sensor", "site": "building-1", "device": "hvac-001", "status": "active"},
	other: {"role": "sensor", "site": "building-1", "device": "hvac-002", "status": "active"},
	eve: {"role": "inspector", "site": "cloud", "device": "eve", "status": "active"},
}

unrevoked := {"generation": 1, "spiffe_ids": {}, "serials": {}}

may_ask(asker, question) if asks(asker, question, unrevoked)

asks(asker, question, revocation) if {
	asking.allow with input as {
		"asker": {"spiffe_id": asker, "cert_serial": "0A"},
		"question": question,
	}
		with data.registry.devices as registry
		with data.revocation as revocation
}

test_everybody_asks_about_themselves if {
	may_ask(hvac, {"spiffe_id": hvac})
	not may_ask(hvac, {"spiffe_id": other})
	not may_ask(hvac, {})
	not may_ask(hvac, null)
}

test_a_target_asks_about_its_callers if {
	question := {
		"spiffe_id": eve,
		"action": "call",
		"topic": "v1/building-1/call/hvac-001/read_sensors/cloud:inspector:eve",
	}
	may_ask(hvac, question)
	not may_ask(other, question)
	not may_ask(hvac, object.union(question, {"action": "publish"}))
	not may_ask(hvac, object.union(question, {"topic": "v1/building-2/call/hvac-001/x/y"}))
	not may_ask(hvac, object.union(question, {"topic": 7}))
}

test_who_looks_after_the_building_asks_about_anybody if {
	may_ask(eve, {"spiffe_id": hvac})
	may_ask(eve, {})
}

test_the_unknown_and_the_revoked_ask_nothing if {
	ghost := "spiffe://building-1.smart.local/agent/ghost"
	not may_ask(ghost, {"spiffe_id": ghost})
	not may_ask(7, {"spiffe_id": 7})
	not asks(hvac, {"spiffe_id": hvac}, {"generation": 2, "spiffe_ids": {hvac: true}, "serials": {}})
	not asks(hvac, {"spiffe_id": hvac}, {"generation": 2, "spiffe_ids": {}, "serials": {"0A": true}})
	not asks(hvac, {"spiffe_id": hvac}, {})
	not asking.allow
}
