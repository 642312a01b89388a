"""Run in an environment of its own, where `taylor-suit` is: author manifests with others' code.

Standard input: a JSON list of manifests in taylor's own form. Standard output: their envelopes in
hex, signed where a key is given in the environment variable KEY_PEM.
"""

import json
import os
import sys

import taylor  # type: ignore[import-not-found]

key = os.environ.get("KEY_PEM")
envelopes = [taylor.build_envelope(one, key_pem=key).hex() for one in json.load(sys.stdin)]
json.dump(envelopes, sys.stdout)
