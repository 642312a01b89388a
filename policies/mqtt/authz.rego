# METADATA
# title: May this principal do this
# description: |
#   One question (`input`), one document (`decision`). The question, field for field that of
#   wire/policy.py: `spiffe_id` and `cert_serial` of the connection's certificate, `client_id`,
#   `action` (connect, publish, subscribe; call is a target's question about its caller), `topic`
#   (a name, a filter, empty for connect), `qos` and `retain`.
#   Everything is proven positively: a part that is missing, malformed or undefined proves nothing,
#   and `decision` is then the default denial. `reason` explains and is never consulted.
# entrypoint: true
package mqtt.authz

import data.mqtt.capabilities
import data.mqtt.identity
import data.mqtt.topics

# --- the question, normalised: nothing else reads `input` ---------------------

asked := input if {
	is_object(input)
} else := {}

action := object.get(asked, "action", null)

spiffe_id := object.get(asked, "spiffe_id", null)

cert_serial := object.get(asked, "cert_serial", null)

client_id := object.get(asked, "client_id", null)

topic := object.get(asked, "topic", null)

retain := object.get(asked, "retain", null)

default well_formed := false

well_formed if {
	action in {"connect", "publish", "subscribe", "call"}
	is_string(spiffe_id)
	is_string(client_id)
	is_string(cert_serial)
	serial_given
	is_string(topic)
	is_boolean(retain)
	object.get(asked, "qos", null) in {0, 1, 2}
}

# A target asks about a caller whose certificate it has not seen; a broker always has.
serial_given if action == "call"

serial_given if cert_serial != ""

# --- who asks ----------------------------------------------------------------

subject := identity.parse(spiffe_id)

entry := data.registry.devices[spiffe_id] if {
	data.registry.devices[spiffe_id]
} else := vouched

# A building's registry does not hold the cloud's services and people. When a device asks about one
# that calls it, the caller has been let in by the cloud's broker and came over the bridge: it has
# the role that its ID stands for. The cloud knows its own, and vouches for nobody.
vouched := {"role": name, "site": subject.site, "device": subject.name, "status": "active"} if {
	action == "call"
	subject.domain == "cloud"
	not data.registry.devices[front]
	some name, rights in data.acl.roles
	rights.domain == subject.domain
	rights.kind == subject.kind
	named_for(rights)
}

front := sprintf("spiffe://%s/agent/front", [identity.cloud_trust_domain])

role := data.acl.roles[entry.role]

default revocation_known := false

revocation_known if {
	is_number(data.revocation.generation)
	is_object(data.revocation.spiffe_ids)
	is_object(data.revocation.serials)
}

default unrevoked := false

unrevoked if {
	revocation_known
	object.get(data.revocation.spiffe_ids, spiffe_id, "absent") == "absent"
	object.get(data.revocation.serials, cert_serial, "absent") == "absent"
}

default active := false

active if entry.status == "active"

default consistent := false

# The registry's role, site and name are those that the SPIFFE ID itself stands for.
consistent if {
	subject.domain == role.domain
	subject.kind == role.kind
	named_for(role)
	entry.site == subject.site
	entry.device == subject.name
}

named_for(rights) if subject.name in rights.names

named_for(rights) if {
	rights.names == "any"
	not subject.name in data.acl.names_of_roles
}

default known := false

known if {
	well_formed
	unrevoked
	active
	consistent
}

# --- what is asked -----------------------------------------------------------

default client_id_own := false

client_id_own if {
	role.client_id == "free"
	client_id != ""
}

client_id_own if client_id == subject.name

client_id_own if {
	role.client_id == "suffixed"
	startswith(client_id, concat("", [subject.name, "-"]))
}

wanted := topic if {
	action in {"publish", "call"}
	topics.valid_name(topic)
}

wanted := filter if {
	action == "subscribe"
	topics.valid_filter(topic)
	filter := topics.unshare(topic)
	topics.valid_filter(filter)
}

granting := role.subscribe if {
	action == "subscribe"
} else := role.publish if {
	action == "publish"
} else := [grant | some grant in role.publish; contains(grant.topic, "/call/")]

# The grants of the role that cover what is asked, in the order of the list.
matching := [grant |
	some grant in granting
	topics.covers(fill(grant.topic), wanted)
]

fill(template) := strings.replace_n(
	{
		"{site}": subject.site,
		"{name}": subject.name,
		"{self}": subject.level,
		"{domain}": sprintf("{domain:%s}", [subject.site]),
	},
	template,
)

retainable := [grant |
	some grant in matching
	retain_permitted(grant)
]

permitted := [grant |
	some grant in retainable
	call_permitted
]

retain_permitted(_) if retain == false

retain_permitted(grant) if grant.retain == true

call := capabilities.of_topic(topic) if action in {"publish", "call"}

call_permitted if not call

# Whoever carries a call for others (a gateway, an uplink) is not its caller: that one was asked
# about where it connects.
call_permitted if {
	role.carries_calls == true
	call.caller != subject.level
}

call_permitted if capabilities.permitted(call, entry.role, subject.level)

# --- the answer --------------------------------------------------------------

default allow := false

allow if {
	known
	action == "connect"
	client_id_own
}

allow if {
	known
	action in {"publish", "subscribe", "call"}
	count(permitted) > 0
}

# What is wrong, in one word: the first of these.
reason := "ok" if {
	allow
} else := "malformed" if {
	not well_formed
} else := "no-revocation-data" if {
	not revocation_known
} else := "revoked" if {
	not unrevoked
} else := "bad-identity" if {
	not subject
} else := "unregistered" if {
	not entry
} else := "inactive" if {
	not active
} else := "unknown-role" if {
	not role
} else := "identity-mismatch" if {
	not consistent
} else := "client-id-not-own" if {
	action == "connect"
} else := "bad-topic" if {
	not wanted
} else := "topic-not-granted" if {
	count(matching) == 0
} else := "retain-not-granted" if {
	count(retainable) == 0
} else := "capability-not-granted"

# The rule that decided: the grant for an allowed topic, the failed check for a denial.
rule := sprintf("%s may %s %s", [entry.role, action, permitted[0].topic]) if {
	allow
	action != "connect"
} else := sprintf("%s may connect", [entry.role]) if {
	allow
} else := concat("", ["mqtt.authz: ", reason])

default revision := "unknown"

revision := data.system.revision if is_string(data.system.revision)

# When even the parts of an answer are undefined, for instance without `data.acl`.
default decision := {
	"allow": false,
	"reason": "undefined",
	"ttl_s": 0,
	"revision": "unknown",
	"rule": "default",
}

decision := {
	"allow": true,
	"reason": reason,
	"ttl_s": data.acl.allow_ttl_s,
	"revision": revision,
	"rule": rule,
} if {
	allow
} else := {
	"allow": false,
	"reason": reason,
	"ttl_s": data.acl.deny_ttl_s,
	"revision": revision,
	"rule": rule,
}
