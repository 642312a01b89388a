# METADATA
# title: Who asks
# description: |
#   A SPIFFE ID, read into what topics and the registry call its owner. Two trust domains meet on
#   every broker: the cloud's (`data.system.cloud_trust_domain`, else the one in `data.acl`) and a
#   building's, whose first label is its site.
package mqtt.identity

# One level of our topics that a SPIFFE path segment can be; `:` joins segments and is in none.
segment := `^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`

domain := `^[a-z0-9][a-z0-9_-]{0,63}([.][a-z0-9_-]{1,63})*$`

cloud_trust_domain := data.system.cloud_trust_domain if {
	is_string(data.system.cloud_trust_domain)
} else := data.acl.cloud_trust_domain

# parse("spiffe://building-1.smart.local/agent/hvac-001") names the kind of path (`agent`), the
# last element (`hvac-001`), the site, and the one level that stands for the ID in call topics.
parse(id) := {
	"domain": "cloud",
	"kind": parts.kind,
	"name": parts.name,
	"site": cloud_site(parts),
	"level": cloud_level(parts),
} if {
	parts := split_id(id)
	parts.trust_domain == cloud_trust_domain
}

parse(id) := {
	"domain": "building",
	"kind": parts.kind,
	"name": parts.name,
	"site": site,
	"level": parts.name,
} if {
	parts := split_id(id)
	parts.trust_domain != cloud_trust_domain
	parts.kind == "agent"
	site := split(parts.trust_domain, ".")[0]
	site != "cloud"
}

split_id(id) := {"trust_domain": levels[2], "kind": levels[3], "name": levels[4]} if {
	is_string(id)
	levels := split(id, "/")
	count(levels) == 5
	levels[0] == "spiffe:"
	levels[1] == ""
	regex.match(domain, levels[2])
	levels[3] in {"agent", "gateway", "operator", "inspector"}
	regex.match(segment, levels[4])
	not levels[4] in data.acl.names_reserved
}

# A gateway's identity at the cloud speaks for its site; everybody else there is the cloud's own.
cloud_site(parts) := parts.name if parts.kind == "gateway"

cloud_site(parts) := "cloud" if parts.kind != "gateway"

# The same form as SpiffeId.level in wire/spiffe.py.
cloud_level(parts) := concat(":", ["cloud", parts.name]) if parts.kind == "agent"

cloud_level(parts) := concat(":", ["cloud", parts.kind, parts.name]) if parts.kind != "agent"

# What belongs to the cloud on topics: its services as callers, its trust domain, its name.
of_cloud(level) if startswith(level, "cloud:")

of_cloud(level) if level == "cloud"

of_cloud(level) if level == cloud_trust_domain
