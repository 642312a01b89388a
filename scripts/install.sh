# shellcheck shell=bash
# What both set-up scripts do; sourced by them.

fail() { # CODE TEXT…
    local code=$1
    shift
    echo "plantroom: $*" >&2
    exit "$code"
}

need_root() {
    [ "$(id -u)" = 0 ] || fail 2 "this changes the system: run it as root"
}

install_plantroom() { # SOURCE
    [ -x /opt/plantroom/bin/python ] || python3 -m venv /opt/plantroom
    local pip=(/opt/plantroom/bin/python -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" --require-hashes --requirement "$1/requirements.lock"
    "${pip[@]}" --no-deps --no-build-isolation "$1"
}

make_user() { # NAME
    id "$1" >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent \
            --shell /usr/sbin/nologin "$1"
}

make_private() { # FOLDER OWNER
    install -d -m 0700 -o "$2" -g "$2" "$1"
}

give_once() { # FROM TO OWNER DONE: if there is something to give, and not any more once DONE is there
    if [ -e "$4" ] || [ -z "$1" ]; then return 0; fi
    install -m 0600 -o "$3" -g "$3" "$1" "$2"
}

write_config() { # KIND FILE, text on stdin; what is there stays
    install -d -m 0755 "$(dirname "$2")"
    if [ -e "$2" ]; then
        cat >/dev/null
        echo "$2 is there and stays as it is"
    else
        cat >"$2"
        echo "# Every option, explained: plantroom config sample $1" >>"$2"
    fi
    /opt/plantroom/bin/plantroom config check --kind "$1" "$2" ||
        fail 3 "$2 is wrong: mend it and run this again"
}

start_unit() { # FILE UNIT
    install -m 0644 "$1" /etc/systemd/system/
    systemctl daemon-reload
    systemctl enable --quiet "$2"
    systemctl restart "$2"
}
