#!/usr/bin/env bash
# Sets a sensor's agent up on a Debian machine with systemd. Safe to run again.
#
# usage: setup-sensor-device.sh LABEL --gateway HOST [--join-token FILE] [--bundle FILE]
#                               [--bundle-sha256 HEX] [--tpm DEVICE] [--trust-domain NAME] [--place TEXT]
#   LABEL            the device's label, such as HVAC-SENSOR-001, OCCUPANCY-001 or ENERGY-001
#   --join-token     what `plantroom identity token create spiffe://…/agent/NAME --code` printed on the
#                    gateway (with --code no bundle is needed); without it the device shows its
#                    fingerprint, and waits until an operator admits that
#   --bundle         what `plantroom identity bundle show` printed there, or
#   --bundle-sha256  what `plantroom identity bundle show --format sha256` printed there
#   --tpm            prove this device by its TPM, such as /dev/tpmrm0: no token at all
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/install.sh
. "$here/scripts/install.sh"

label=${1:-}
[ -n "$label" ] || fail 2 "the device's label is missing, such as HVAC-SENSOR-001"
shift
gateway='' token='' bundle='' pin='' tpm='' trust_domain=building-1.smart.local place=Floor-2-Zone-A
while [ $# -gt 0 ]; do
    case $1 in
    --gateway) gateway=$2 ;;
    --join-token) token=$2 ;;
    --bundle) bundle=$2 ;;
    --bundle-sha256) pin=$2 ;;
    --tpm) tpm=$2 ;;
    --trust-domain) trust_domain=$2 ;;
    --place) place=$2 ;;
    *) fail 2 "unknown option $1: see the head of $0" ;;
    esac
    shift 2 || fail 2 "$1 wants a value"
done
[ -n "$gateway" ] || fail 2 "--gateway is missing: the host of the building's gateway"
number=${label##*-}
case $label in
HVAC-SENSOR-[0-9]*) kind=hvac ;;
OCCUPANCY-[0-9]*) kind=occupancy ;;
ENERGY-[0-9]*) kind=energy ;;
*) fail 2 "label $label: HVAC-SENSOR-N, OCCUPANCY-N or ENERGY-N" ;;
esac
name=$kind-$number
need_root

install_plantroom "$here"
make_user plantroom-device
state=/var/lib/plantroom/devices/$name
make_private "$state" plantroom-device
make_private "$state/identity" plantroom-device
svid=$state/identity/svid.pem
give_once "$token" "$state/identity/join-token" plantroom-device "$svid"
give_once "$bundle" "$state/identity/bundles.json" plantroom-device "$svid"
if [ -n "$pin" ] && [ ! -e "$svid" ]; then
    printf '%s\n' "$pin" |
        install -m 0600 -o plantroom-device -g plantroom-device /dev/stdin "$state/identity/bundle-sha256"
fi
attestor=join-token
if [ -n "$tpm" ]; then
    attestor=tpm
    if getent group tss >/dev/null; then usermod -aG tss plantroom-device; fi
fi

write_config device "/etc/plantroom/devices/$name.toml" <<TOML
[agent]
name = "$name"
trust_domain = "$trust_domain"
device_label = "$label"
kind = "$kind"
place = "$place"
state = "$state"

[identity]
enrol_address = "$gateway:8444"
gateway_id = "spiffe://$trust_domain/agent/gateway"
attestor = "$attestor"
tpm = "${tpm:-/dev/tpmrm0}"

[uplink]
address = "$gateway:8883"

[policy]
endpoint = "$gateway:8445"
TOML
if [ ! -e "$svid" ] && { [ -z "$token" ] || [ -n "$tpm" ]; }; then
    echo "on the gateway, an operator has to let this device in:"
    runuser -u plantroom-device -- \
        /opt/plantroom/bin/plantroom identity fingerprint "/etc/plantroom/devices/$name.toml" --qr
fi
start_unit "$here/deploy/systemd/plantroom-device@.service" "plantroom-device@$name.service"
echo "sensor $name runs; its log: journalctl -u plantroom-device@$name"
