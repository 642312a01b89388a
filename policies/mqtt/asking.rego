# METADATA
# title: Who may ask a decision point about whom
# description: |
#   A gateway answers policy questions over the network. `input` is `asker` (SPIFFE ID and serial of
#   the asking connection's certificate) and `question`. Everybody may ask about themselves and
#   about who calls them; operators, inspectors and gateways about anybody.
package mqtt.asking

import data.mqtt.authz
import data.mqtt.capabilities
import data.mqtt.identity

default allow := false

allow if {
	asker_known
	input.question.spiffe_id == input.asker.spiffe_id
}

allow if {
	asker_known
	input.question.action == "call"
	call := capabilities.of_topic(input.question.topic)
	asker := identity.parse(input.asker.spiffe_id)
	call.site == asker.site
	call.target == asker.name
}

allow if {
	asker_known
	data.registry.devices[input.asker.spiffe_id].role in {"operator", "inspector", "gateway", "uplink"}
}

asker_known if {
	authz.known with input as {
		"spiffe_id": input.asker.spiffe_id,
		"cert_serial": input.asker.cert_serial,
		"client_id": "",
		"action": "connect",
		"topic": "",
		"qos": 0,
		"retain": false,
	}
}
