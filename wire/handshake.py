"""Why a TLS handshake failed, in one word for the audit and the metrics."""

import ssl

# X509_V_ERR_… of OpenSSL's x509_vfy.h
_VERIFY = {
    9: "not-yet-valid",
    10: "expired",
    18: "self-signed",
    19: "unknown-issuer",
    20: "unknown-issuer",
    21: "unknown-issuer",
    24: "ca-invalid",
    26: "extended-key-usage",
    79: "ca-invalid",
}
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no-certificate",
    "UNSUPPORTED_PROTOCOL": "tls-version",
    "WRONG_VERSION_NUMBER": "not-tls",
    "HTTP_REQUEST": "not-tls",
    "BAD_RECORD_TYPE": "not-tls",
    "UNEXPECTED_MESSAGE": "not-tls",
}


def refusal_reason(error: BaseException) -> str:
    """Return the word: `expired`, `no-certificate`, `tls-version`, `timeout`, `cut`, and so on."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, "unverified")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _REASONS.get(reason, reason.lower().replace("_", "-") or "tls")
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, OSError) and "handshake" in str(error):  # asyncio's ConnectionAbortedError
        return "timeout"
    return "cut"
