# METADATA
# title: Who may talk to the OPA server
# description: |
#   For `opa run --authentication=tls --authorization=basic`: the cloud's front broker asks, and
#   delivers registry and revocations; nobody else does anything. OPA has checked the certificate;
#   the SPIFFE ID in it is compared here.
package system.authz

front := "spiffe://smart-building.cloud/agent/front"

default allow := false

allow if {
	from_front
	input.method == "POST"
	input.path[0] == "v1"
	input.path[1] == "data"
}

allow if {
	from_front
	input.method in {"PUT", "PATCH"}
	array.slice(input.path, 0, 2) == ["v1", "data"]
	input.path[2] in {"registry", "revocation", "system"}
}

allow if {
	input.method == "GET"
	input.path == ["health"]
}

from_front if {
	names := [sprintf("%s://%s%s", [uri.Scheme, uri.Host, uri.Path]) |
		some uri in input.client_certificates[0].URIs
	]
	names == [front]
}
