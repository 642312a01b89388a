#!/usr/bin/env bash
# Sets a building's gateway up on a Debian machine with systemd. Safe to run again.
#
# usage: setup-edge-gateway.sh --cloud HOST [--site NAME] [--trust-domain NAME]
#                              --join-token FILE [--bundle FILE]
#   --join-token  what `plantroom identity token create spiffe://…/gateway/SITE --code` printed in the
#                 cloud (with --code no bundle is needed)
#   --bundle      what `plantroom identity bundle show --trust-domain …` printed there
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/install.sh
. "$here/scripts/install.sh"

cloud='' site=building-1 trust_domain=building-1.smart.local token='' bundle=''
while [ $# -gt 0 ]; do
    case $1 in
    --cloud) cloud=$2 ;;
    --site) site=$2 ;;
    --trust-domain) trust_domain=$2 ;;
    --join-token) token=$2 ;;
    --bundle) bundle=$2 ;;
    *) fail 2 "unknown option $1: see the head of $0" ;;
    esac
    shift 2 || fail 2 "$1 wants a value"
done
[ -n "$cloud" ] || fail 2 "--cloud is missing: the host of the cloud's brokers"
need_root

install_plantroom "$here"
make_user plantroom-gateway
state=/var/lib/plantroom/gateway
make_private "$state" plantroom-gateway
make_private "$state/uplink" plantroom-gateway
give_once "$token" "$state/uplink/join-token" plantroom-gateway "$state/uplink/svid.pem"
give_once "$bundle" "$state/uplink/bundles.json" plantroom-gateway "$state/uplink/svid.pem"

write_config gateway /etc/plantroom/gateway.toml <<TOML
[agent]
site = "$site"
trust_domain = "$trust_domain"
state = "$state"

[bridge]
address = "$cloud:8883"

[identity]
cloud_enrol_address = "$cloud:8444"
dns = ["$(hostname -f)", "localhost"]

[policy]
host = "0.0.0.0"
port = 8445
TOML
start_unit "$here/deploy/systemd/plantroom-gateway.service" plantroom-gateway.service
echo "gateway of $site runs; its log: journalctl -u plantroom-gateway"
