package mqtt.identity_test

import data.mqtt.identity

test_a_sensor if {
	identity.parse("spiffe://building-1.smart.local/agent/hvac-001") == {
		"domain": "building",
		"kind": "agent",
		"name": "hvac-001",
		"site": "building-1",
		"level": "hvac-001",
	}
}

test_a_trust_domain_of_one_label if {
	identity.parse("spiffe://building-1/agent/hvac-001").site == "building-1"
}

test_the_cloud_in_its_three_forms if {
	identity.parse("spiffe://smart-building.cloud/agent/ota").level == "cloud:ota"
	identity.parse("spiffe://smart-building.cloud/agent/ota").site == "cloud"
	identity.parse("spiffe://smart-building.cloud/operator/ann").level == "cloud:operator:ann"
	uplink := identity.parse("spiffe://smart-building.cloud/gateway/building-1")
	uplink.level == "cloud:gateway:building-1"
	uplink.site == "building-1"
	uplink.name == "building-1"
}

test_what_is_no_identity_of_ours if {
	every id in [
		"",
		"spiffe://",
		"spiffe://building-1.smart.local",
		"spiffe://building-1.smart.local/agent",
		"spiffe://building-1.smart.local/agent/",
		"spiffe://building-1.smart.local/agent/a/b",
		"spiffe://building-1.smart.local/agent/..",
		"spiffe://building-1.smart.local/agent/a:b",
		"spiffe://building-1.smart.local/agent/+",
		"spiffe://building-1.smart.local/agent/{self}",
		"spiffe://building-1.smart.local/agent/a\n",
		"spiffe://building-1.smart.local/agent/cloud",
		"spiffe://building-1.smart.local/agent/trust",
		"spiffe://building-1.smart.local/operator/ann",
		"spiffe://cloud/agent/hvac-001",
		"spiffe://.smart.local/agent/hvac-001",
		"spiffe://cloud.smart.local/agent/hvac-001",
		"spiffe://Building-1.smart.local/agent/hvac-001",
		"SPIFFE://building-1.smart.local/agent/hvac-001",
		"x/spiffe://building-1.smart.local/agent/hvac-001",
	] {
		not identity.parse(id)
	}
	not identity.parse(7)
}

test_the_clouds_trust_domain_is_a_setting if {
	id := "spiffe://example.cloud/agent/ota"
	identity.parse(id).domain == "building"
	identity.parse(id).domain == "cloud" with data.system.cloud_trust_domain as "example.cloud"
	parsed := identity.parse("spiffe://smart-building.cloud/agent/ota") with data.system.cloud_trust_domain as 7
	parsed.domain == "cloud"
}

test_what_belongs_to_the_cloud if {
	identity.of_cloud("cloud")
	identity.of_cloud("cloud:operator:ann")
	identity.of_cloud("smart-building.cloud")
	not identity.of_cloud("cloud-1")
	not identity.of_cloud("building-1.smart.local")
}
