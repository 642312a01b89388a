"""Identity at work: issuer, enrolment, bundles, revocation."""
