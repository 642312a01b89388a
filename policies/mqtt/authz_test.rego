package mqtt.authz_test

import data.mqtt.authz

hvac := "spiffe://building-1.smart.local/agent/hvac-001"

gateway := "spiffe://building-1.smart.local/agent/gateway"

uplink := "spiffe://smart-building.cloud/gateway/building-1"

ingestion := "spiffe://smart-building.cloud/agent/ingestion"

analytics := "spiffe://smart-building.cloud/agent/analytics"

dashboard := "spiffe://smart-building.cloud/agent/dashboard"

fleet := "spiffe://smart-building.cloud/agent/devices"

ota := "spiffe://smart-building.cloud/agent/ota"

front := "spiffe://smart-building.cloud/agent/front"

ann := "spiffe://smart-building.cloud/operator/ann"

eve := "spiffe://smart-building.cloud/inspector/eve"

registry := {
	hvac: {"role": "sensor", "site": "building-1", "device": "hvac-001", "status": "active"},
	gateway: {"role": "gateway", "site": "building-1", "device": "gateway", "status": "active"},
	uplink: {"role": "uplink", "site": "building-1", "device": "building-1", "status": "active"},
	ingestion: {"role": "ingestion", "site": "cloud", "device": "ingestion", "status": "active"},
	analytics: {"role": "analytics", "site": "cloud", "device": "analytics", "status": "active"},
	dashboard: {"role": "dashboard", "site": "cloud", "device": "dashboard", "status": "active"},
	fleet: {"role": "devices", "site": "cloud", "device": "devices", "status": "active"},
	ota: {"role": "ota", "site": "cloud", "device": "ota", "status": "active"},
	front: {"role": "front", "site": "cloud", "device": "front", "status": "active"},
	ann: {"role": "operator", "site": "cloud", "device": "ann", "status": "active"},
	eve: {"role": "inspector", "site": "cloud", "device": "eve", "status": "active"},
}

unrevoked := {"generation": 1, "spiffe_ids": {}, "serials": {}}

question(id, action, topic) := {
	"spiffe_id": id,
	"cert_serial": "0a",
	"client_id": "x",
	"action": action,
	"topic": topic,
	"qos": 1,
	"retain": false,
}

answer(document) := made if {
	made := authz.decision with input as document
		with data.registry.devices as registry
		with data.revocation as unrevoked
}

may(id, action, topic) if {
	made := answer(question(id, action, topic))
	made.allow == true
	made.reason == "ok"
	made.ttl_s == 300
}

may_retain(id, topic) if {
	answer(object.union(question(id, "publish", topic), {"retain": true})).allow == true
}

refused(id, action, topic) := answer(question(id, action, topic)).reason

connects(id, client_id) if {
	made := answer(object.union(question(id, "connect", ""), {"client_id": client_id}))
	made.allow == true
}

# --- CONNECT -----------------------------------------------------------------

test_everybody_connects_under_their_own_name if {
	every id, entry in registry {
		connects(id, entry.device)
	}
}

test_a_sensor_under_another_name_is_refused if {
	document := object.union(question(hvac, "connect", ""), {"client_id": "hvac-002"})
	answer(document).reason == "client-id-not-own"
}

test_only_ingestion_takes_suffixes if {
	connects(ingestion, "ingestion-2")
	not connects(ingestion, "ingestion2")
	not connects(ota, "ota-2")
	not connects(hvac, "hvac-001-2")
}

test_tools_make_up_their_client_ids if {
	connects(ann, "mqtt-explorer-1234")
	connects(eve, "auto-5F3")
	not connects(ann, "")
}

# --- sensor ------------------------------------------------------------------

test_a_sensor_publishes_its_own if {
	every topic in [
		"v1/building-1/telemetry/hvac-001",
		"v1/building-1/presence/hvac-001",
		"v1/building-1/twin/hvac-001/reported",
		"v1/building-1/call/gateway/receive_reading/hvac-001",
		"v1/building-1/call/ota/check_update/hvac-001",
		"v1/building-1/reply/cloud:operator:ann/42",
		"v1/building-1/ota/hvac-001/get",
		"v1/building-1/ota/hvac-001/state",
	] {
		may(hvac, "publish", topic)
	}
}

test_a_sensor_publishes_nothing_else if {
	every topic in [
		"v1/building-1/telemetry/hvac-002",
		"v1/building-1/telemetry/hvac-0011",
		"v1/building-1/telemetry/hvac-001/more",
		"v1/building-1/telemetry",
		"v1/building-2/telemetry/hvac-001",
		"v2/building-1/telemetry/hvac-001",
		"v1/building-1/presence/gateway",
		"v1/building-1/twin/hvac-001/desired",
		"v1/building-1/call/hvac-002/read_sensors/hvac-003",
		"v1/building-1/call/hvac-002/read_sensors/cloud:operator:ann",
		"v1/building-1/alarm/frost/hvac-001",
		"v1/building-1/uplink/gateway/live",
		"v1/building-1/receipt/gateway",
		"v1/building-1/denylist/building-1",
		"v1/building-1/policy",
		"v1/building-1/ota/head",
		"v1/building-1/ota/hvac-002/get",
		"v1/building-1/fw/abc/0",
		"v1/building-1/view/hvac-001/temperature",
	] {
		refused(hvac, "publish", topic) == "topic-not-granted"
	}
}

test_a_sensor_retains_what_is_state if {
	may_retain(hvac, "v1/building-1/presence/hvac-001")
	may_retain(hvac, "v1/building-1/twin/hvac-001/reported")
	document := object.union(
		question(hvac, "publish", "v1/building-1/telemetry/hvac-001"),
		{"retain": true},
	)
	answer(document).reason == "retain-not-granted"
}

test_a_sensor_subscribes_to_its_own if {
	every filter in [
		"v1/building-1/twin/hvac-001/desired",
		"v1/building-1/call/hvac-001/+/+",
		"v1/building-1/call/hvac-001/read_sensors/+",
		"v1/building-1/reply/hvac-001/+",
		"v1/building-1/bundle/+",
		"v1/building-1/ota/head",
		"v1/building-1/ota/hvac-001/chunk/+",
		"v1/building-1/fw/+/+",
	] {
		may(hvac, "subscribe", filter)
	}
}

test_a_sensor_subscribes_to_nothing_else if {
	every filter in [
		"#",
		"+/+/+/+",
		"v1/building-1/#",
		"v1/building-1/telemetry/hvac-001",
		"v1/building-1/call/+/+/+",
		"v1/building-1/call/hvac-001/#",
		"v1/building-1/call/hvac-002/+/+",
		"v1/building-1/reply/+/+",
		"v1/building-1/reply/hvac-002/+",
		"v1/+/twin/hvac-001/desired",
		"v1/building-2/twin/hvac-001/desired",
		"v1/building-1/ota/+/chunk/+",
		"$SYS/#",
	] {
		refused(hvac, "subscribe", filter) == "topic-not-granted"
	}
}

# --- gateway, in the building and at the cloud -----------------------------------

test_a_gateway_carries_the_clouds_calls_but_no_sensors if {
	may(gateway, "publish", "v1/building-1/call/hvac-001/read_sensors/gateway")
	may(gateway, "publish", "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann")
	not may(gateway, "publish", "v1/building-1/call/hvac-001/read_sensors/hvac-002")
}

test_a_gateway_hands_on_lists_and_bundles_of_its_own_domain_and_the_clouds if {
	every family in ["denylist", "bundle"] {
		may_retain(gateway, sprintf("v1/building-1/%s/building-1.smart.local", [family]))
		may_retain(gateway, sprintf("v1/building-1/%s/smart-building.cloud", [family]))
		not may(gateway, "publish", sprintf("v1/building-1/%s/building-2.smart.local", [family]))
	}
}

test_a_gateway_reads_its_building if {
	may(gateway, "subscribe", "v1/building-1/#")
	may(gateway, "subscribe", "$SYS/#")
	not may(gateway, "subscribe", "v1/building-2/#")
	not may(gateway, "publish", "v1/building-1/telemetry/hvac-001")
}

test_an_uplink_speaks_for_its_own_site if {
	every topic in [
		"v1/building-1/presence/hvac-001",
		"v1/building-1/twin/hvac-001/reported",
		"v1/building-1/reply/cloud:operator:ann/42",
		"v1/building-1/call/ota/check_update/hvac-001",
		"v1/building-1/alarm/frost/hvac-001",
		"v1/building-1/uplink/gateway/live",
		"v1/building-1/uplink/gateway/backfill",
		"v1/building-1/uplink/gateway/hello",
		"v1/building-1/denylist/building-1.smart.local",
		"v1/building-1/bundle/building-1.smart.local",
		"v1/building-1/ota/hvac-001/state",
		"v1/building-1/ota/gateway/get",
	] {
		may(uplink, "publish", topic)
	}
}

test_an_uplink_speaks_for_nobody_else if {
	every topic in [
		"v1/building-2/presence/hvac-001",
		"v1/building-2/uplink/gateway/live",
		"v1/building-1/uplink/other/live",
		"v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann",
		"v1/building-1/call/hvac-001/read_sensors/cloud",
		"v1/building-1/bundle/smart-building.cloud",
		"v1/building-1/bundle/building-2.smart.local",
		"v1/building-1/bundle/building-10.smart.local",
		"v1/building-1/denylist/cloud",
		"v1/building-1/denylist/building-2.smart.local",
		"v1/building-1/ota/hvac-001/get",
		"v1/building-1/receipt/gateway",
		"v1/building-1/telemetry/hvac-001",
		"v1/building-1/twin/hvac-001/desired",
		"v1/building-1/view/hvac-001/temperature",
	] {
		refused(uplink, "publish", topic) == "topic-not-granted"
	}
}

test_an_uplink_hears_what_comes_down if {
	every filter in [
		"v1/building-1/twin/+/desired",
		"v1/building-1/call/+/+/+",
		"v1/building-1/receipt/gateway",
		"v1/building-1/refill/gateway",
		"v1/building-1/denylist/+",
		"v1/building-1/policy",
		"v1/building-1/bundle/+",
		"v1/building-1/ota/+/manifest",
		"v1/building-1/reply/hvac-001/+",
		"v1/building-1/reply/cloud:gateway:building-1/+",
	] {
		may(uplink, "subscribe", filter)
	}
}

test_an_uplink_hears_no_reply_to_the_cloud if {
	refused(uplink, "subscribe", "v1/building-1/reply/cloud:operator:ann/+") == "topic-not-granted"
	refused(uplink, "subscribe", "v1/building-1/reply/+/+") == "topic-not-granted"
	refused(uplink, "subscribe", "v1/building-2/receipt/gateway") == "topic-not-granted"
}

# --- the cloud's services ------------------------------------------------------

test_ingestion_takes_batches_and_gives_receipts if {
	may(ingestion, "subscribe", "v1/+/uplink/+/+")
	may(ingestion, "subscribe", "$share/ingestion/v1/+/uplink/gateway/live")
	may(ingestion, "publish", "v1/building-1/receipt/gateway")
	may(ingestion, "publish", "v1/building-1/refill/gateway")
	not may(ingestion, "publish", "v1/building-1/uplink/gateway/live")
	not may(ingestion, "publish", "v1/building-1/twin/hvac-001/desired")
}

test_only_the_dashboard_publishes_views if {
	may_retain(dashboard, "v1/building-1/view/hvac-001/temperature")
	every id in [ingestion, analytics, fleet, ota, front, ann, eve] {
		not may(id, "publish", "v1/building-1/view/hvac-001/temperature")
	}
}

test_device_management_steers_devices if {
	may_retain(fleet, "v1/building-1/twin/hvac-001/desired")
	may_retain(fleet, "v1/building-1/denylist/smart-building.cloud")
	may_retain(fleet, "v1/building-1/bundle/smart-building.cloud")
	not may(fleet, "publish", "v1/building-1/ota/head")
	not may(fleet, "publish", "v1/building-1/denylist/building-1.smart.local")
	not may(fleet, "publish", "v1/building-1/bundle/building-1.smart.local")
}

test_an_author_uploads_images_and_only_ota_takes_them if {
	may(ann, "publish", "v1/cloud/fw/abcd/0")
	may(ota, "subscribe", "v1/cloud/fw/+/+")
	not may(ann, "publish", "v1/building-1/fw/abcd/0")
	every id in [hvac, gateway, uplink, ingestion, ota] {
		not may(id, "publish", "v1/cloud/fw/abcd/0")
	}
	may(uplink, "publish", "v1/building-1/ota/gateway/get")
	not may(uplink, "publish", "v1/building-1/ota/hvac-001/get")
}

test_ota_publishes_updates if {
	may_retain(ota, "v1/building-1/ota/trust/2")
	may_retain(ota, "v1/building-1/ota/hvac-001/assign")
	may(ota, "subscribe", "v1/+/ota/+/state")
	may_retain(ota, "v1/building-1/alarm/update-bad-signature/ota")
	not may(ota, "publish", "v1/building-1/alarm/frost/hvac-001")
	not may(ota, "publish", "v1/building-1/twin/hvac-001/desired")
}

test_analytics_raises_alarms if {
	may_retain(analytics, "v1/building-1/alarm/frost/hvac-001")
	not may(dashboard, "publish", "v1/building-1/alarm/frost/hvac-001")
}

test_the_front_broker_watches_its_own_figures if {
	may(front, "subscribe", "$SYS/broker/#")
	not may(front, "subscribe", "#")
}

test_a_service_hears_calls_and_replies_to_itself if {
	every id, entry in registry {
		every filter in service_filters(id, entry) {
			may(id, "subscribe", filter)
		}
	}
	not may(ingestion, "subscribe", "v1/cloud/reply/cloud:ota/+")
	not may(ingestion, "subscribe", "v1/cloud/call/ota/+/+")
	not may(ingestion, "publish", "v1/building-1/call/hvac-001/read_sensors/cloud:ota")
}

service_filters(id, entry) := [
	sprintf("v1/cloud/call/%s/+/+", [entry.device]),
	sprintf("v1/+/reply/cloud:%s/+", [entry.device]),
] if {
	startswith(id, "spiffe://smart-building.cloud/agent/")
}

service_filters(id, _) := [] if not startswith(id, "spiffe://smart-building.cloud/agent/")

# --- people ------------------------------------------------------------------

test_an_operator_calls_as_itself_everywhere if {
	may(ann, "publish", "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann")
	may(ann, "publish", "v1/cloud/call/ota/check_update/cloud:operator:ann")
	may(ann, "subscribe", "v1/+/reply/cloud:operator:ann/+")
	may(ann, "subscribe", "v1/building-1/telemetry/#")
	may_retain(ann, "v1/building-1/twin/hvac-001/desired")
	may_retain(ann, "v1/building-1/ota/head")
	not may(ann, "publish", "v1/building-1/call/hvac-001/read_sensors/cloud:operator:bob")
	not may(ann, "publish", "v1/building-1/call/hvac-001/read_sensors/hvac-002")
	not may(ann, "publish", "v1/building-1/telemetry/hvac-001")
}

test_an_inspector_reads_everything_and_says_nothing if {
	may(eve, "subscribe", "#")
	may(eve, "subscribe", "$SYS/#")
	may(eve, "subscribe", "v1/building-1/view/+/+")
	refused(eve, "publish", "v1/building-1/presence/eve") == "topic-not-granted"
	refused(eve, "publish", "v1/building-1/call/x/y/cloud:inspector:eve") == "topic-not-granted"
}

# --- a target asks about its caller ----------------------------------------------

test_a_call_is_decided_without_the_callers_certificate if {
	topic := "v1/building-1/call/hvac-001/read_sensors/cloud:operator:ann"
	document := object.union(question(ann, "call", topic), {"cert_serial": "", "client_id": ""})
	made := answer(document)
	made.allow == true
	made.rule == "operator may call v1/+/call/+/+/{self}"
	answer(object.union(document, {"spiffe_id": eve})).reason == "topic-not-granted"
	answer(object.union(document, {"topic": "v1/building-1/twin/x/desired"})).allow == false
}

test_a_device_asks_about_callers_that_only_the_cloud_knows if {
	topic := "v1/building-1/call/hvac-001/read_sensors/cloud:operator:zoe"
	zoe := "spiffe://smart-building.cloud/operator/zoe"
	asked_by_building(zoe, topic) == "ok"
	asked_by_building(
		"spiffe://smart-building.cloud/agent/dashboard",
		"v1/building-1/call/hvac-001/read_sensors/cloud:dashboard",
	) == "ok"
	asked_by_building(
		"spiffe://smart-building.cloud/agent/dashboard",
		"v1/building-1/call/hvac-001/resend/cloud:dashboard",
	) == "capability-not-granted"
	asked_by_building("spiffe://smart-building.cloud/agent/janitor", topic) == "unregistered"
	asked_by_building("spiffe://building-1.smart.local/agent/ghost", topic) == "unregistered"
	refused(zoe, "call", topic) == "unregistered"
	refused(zoe, "publish", topic) == "unregistered"
}

asked_by_building(id, topic) := made.reason if {
	made := authz.decision with input as question(id, "call", topic)
		with data.registry.devices as {hvac: registry[hvac]}
		with data.revocation as unrevoked
}

# --- who may call what on which device -------------------------------------------

test_a_capability_is_for_those_it_names if {
	refused(hvac, "publish", "v1/building-1/call/hvac-002/read_sensors/hvac-001") == "capability-not-granted"
	refused(hvac, "publish", "v1/building-1/call/gateway/sync_to_cloud/hvac-001") == "capability-not-granted"
	refused(
		dashboard, "publish",
		"v1/building-1/call/hvac-001/renew_epoch/cloud:dashboard",
	) == "capability-not-granted"
	may(dashboard, "publish", "v1/building-1/call/hvac-001/read_sensors/cloud:dashboard")
	may(ann, "publish", "v1/building-1/call/hvac-001/blink/cloud:operator:ann")
	may(gateway, "call", "v1/building-1/call/hvac-001/resend/gateway")
	refused(gateway, "call", "v1/building-1/call/hvac-001/blink/gateway") == "capability-not-granted"
	refused(hvac, "call", "v1/building-1/call/hvac-001/read_sensors/hvac-001") == "capability-not-granted"
}

test_one_device_may_have_callers_of_its_own if {
	special := {"building-1/hvac-001": {"read_sensors": ["cloud:operator:ann"]}}
	bob := "spiffe://smart-building.cloud/operator/bob"
	entries := object.union(registry, {bob: object.union(registry[ann], {"device": "bob"})})
	topic := "v1/building-1/call/hvac-001/%s/cloud:operator:%s"
	every case in [
		[ann, "read_sensors", "ann", "ok"],
		[bob, "read_sensors", "bob", "capability-not-granted"],
		[ann, "resend", "ann", "capability-not-granted"],
	] {
		made := authz.decision with input as question(case[0], "publish", sprintf(topic, [case[1], case[2]]))
			with data.registry.devices as entries
			with data.revocation as unrevoked
			with data.acl.capabilities_of_devices as special
		made.reason == case[3]
	}
}

# --- what is wrong is said in one word -------------------------------------------

test_every_field_must_be_there_and_of_its_type if {
	whole := question(hvac, "publish", "v1/building-1/telemetry/hvac-001")
	every key, _ in whole {
		answer(object.remove(whole, [key])).reason == "malformed"
		answer(object.union(whole, {key: null})).reason == "malformed"
		answer(object.union(whole, {key: ["x"]})).reason == "malformed"
	}
	answer([]).reason == "malformed"
	answer("publish").reason == "malformed"
	answer(object.union(whole, {"cert_serial": ""})).reason == "malformed"
	answer(object.union(whole, {"action": "delete"})).reason == "malformed"
	answer(object.union(whole, {"qos": 3})).reason == "malformed"
}

test_no_input_at_all_is_denied if {
	made := authz.decision with data.registry.devices as registry with data.revocation as unrevoked
	made.allow == false
}

test_without_an_acl_everybody_is_denied if {
	made := authz.decision with input as question(hvac, "publish", "v1/building-1/telemetry/hvac-001")
		with data.registry.devices as registry
		with data.revocation as unrevoked
		with data.acl as {}
	made.allow == false
	made.reason == "undefined"
	made.ttl_s == 0
}

revoked_by(revocation) := made.reason if {
	made := authz.decision with input as question(hvac, "publish", "v1/building-1/telemetry/hvac-001")
		with data.registry.devices as registry
		with data.revocation as revocation
}

test_the_revoked_are_refused if {
	revoked_by({"generation": 2, "spiffe_ids": {hvac: true}, "serials": {}}) == "revoked"
	revoked_by({"generation": 2, "spiffe_ids": {}, "serials": {"0a": {"at": 1}}}) == "revoked"
	revoked_by({"generation": 2, "spiffe_ids": {hvac: false}, "serials": {}}) == "revoked"
}

test_without_revocation_data_everybody_is_refused if {
	revoked_by({}) == "no-revocation-data"
	revoked_by({"generation": 1, "spiffe_ids": {}}) == "no-revocation-data"
	revoked_by({"generation": 1, "spiffe_ids": [], "serials": {}}) == "no-revocation-data"
	revoked_by({"generation": "1", "spiffe_ids": {}, "serials": {}}) == "no-revocation-data"
}

entered(id, entry) := made.reason if {
	made := authz.decision with input as question(id, "publish", "v1/building-1/telemetry/hvac-001")
		with data.registry.devices as {id: entry}
		with data.revocation as unrevoked
}

test_an_entry_must_say_what_the_id_says if {
	entered(hvac, registry[hvac]) == "ok"
	entered(hvac, object.union(registry[hvac], {"status": "suspended"})) == "inactive"
	entered(hvac, object.remove(registry[hvac], ["status"])) == "inactive"
	entered(hvac, object.union(registry[hvac], {"role": "janitor"})) == "unknown-role"
	entered(hvac, object.union(registry[hvac], {"site": "building-2"})) == "identity-mismatch"
	entered(hvac, object.union(registry[hvac], {"device": "hvac-002"})) == "identity-mismatch"
	entered(hvac, object.union(registry[hvac], {"role": "gateway"})) == "identity-mismatch"
	entered(hvac, object.union(registry[hvac], {"role": "operator"})) == "identity-mismatch"
	entered(hvac, object.union(registry[hvac], {"role": "ingestion"})) == "identity-mismatch"
	entered(gateway, object.union(registry[gateway], {"role": "sensor"})) == "identity-mismatch"
}

test_a_building_cannot_have_a_role_of_the_cloud if {
	id := "spiffe://building-1.smart.local/agent/ingestion"
	entry := {"role": "ingestion", "site": "cloud", "device": "ingestion", "status": "active"}
	entered(id, entry) == "identity-mismatch"
}

test_the_unknown_are_refused if {
	refused(
		"spiffe://building-1.smart.local/agent/ghost", "publish",
		"v1/building-1/telemetry/ghost",
	) == "unregistered"
	refused("spiffe://building-1.smart.local/operator/ann", "subscribe", "#") == "bad-identity"
	refused("hvac-001", "subscribe", "#") == "bad-identity"
}

test_topics_that_are_none_are_refused if {
	every topic in ["", "v1/building-1/telemetry/#", "v1/+/x", "$SYS/broker/x", "a\u0000b"] {
		refused(ann, "publish", topic) == "bad-topic"
	}
	every filter in ["", "a/#/b", "a+", "$share/g", "$share//a", "$share/g/", "$share/+/a", "a\u0000"] {
		refused(ann, "subscribe", filter) == "bad-topic"
	}
}

test_the_answer_names_rule_and_revision if {
	topic := "v1/building-1/telemetry/hvac-001"
	made := answer(question(hvac, "publish", topic)) with data.system.revision as "r7"
	made.rule == "sensor may publish v1/{site}/telemetry/{name}"
	made.revision == "r7"
	answer(question(hvac, "publish", topic)).revision == "unknown"
	denied := answer(question(hvac, "publish", "v1/x"))
	denied.rule == "mqtt.authz: topic-not-granted"
	denied.ttl_s == 15
	connected := answer(object.union(question(hvac, "connect", ""), {"client_id": "hvac-001"}))
	connected.rule == "sensor may connect"
}
