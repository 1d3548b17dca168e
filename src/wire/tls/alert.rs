//! Alerts (RFC 8446 section 6): how one end tells the other that it closes, or why it fails.

/// The description of an alert, as its number (RFC 8446 section 6; IANA's TLS Alerts registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

/// The level of an alert that fails the connection.
pub(super) const FATAL: u8 = 2;
/// The level of an alert that does not.
pub(super) const WARNING: u8 = 1;

impl Alert {
    /// The sender sends no more (6.1).
    pub const CLOSE_NOTIFY: Alert = Alert(0);
    /// A message that is not allowed now.
    pub const UNEXPECTED_MESSAGE: Alert = Alert(10);
    /// A record that does not decrypt.
    pub const BAD_RECORD_MAC: Alert = Alert(20);
    /// A record or its plaintext is longer than it may be.
    pub const RECORD_OVERFLOW: Alert = Alert(22);
    /// No parameters that both ends support.
    pub const HANDSHAKE_FAILURE: Alert = Alert(40);
    /// A certificate that is corrupt or not valid for the name.
    pub const BAD_CERTIFICATE: Alert = Alert(42);
    /// A certificate that has been revoked.
    pub const CERTIFICATE_REVOKED: Alert = Alert(44);
    /// A certificate that has expired or is not valid yet.
    pub const CERTIFICATE_EXPIRED: Alert = Alert(45);
    /// A field with a value out of its range.
    pub const ILLEGAL_PARAMETER: Alert = Alert(47);
    /// A certificate of an issuer who is not known.
    pub const UNKNOWN_CA: Alert = Alert(48);
    /// The client may not have what it asks for.
    pub const ACCESS_DENIED: Alert = Alert(49);
    /// A message that cannot be parsed.
    pub const DECODE_ERROR: Alert = Alert(50);
    /// A signature or a Finished that is not correct.
    pub const DECRYPT_ERROR: Alert = Alert(51);
    /// A version that this end does not support.
    pub const PROTOCOL_VERSION: Alert = Alert(70);
    /// A fault of this end.
    pub const INTERNAL_ERROR: Alert = Alert(80);
    /// The user has cancelled the handshake; no fault of the protocol.
    pub const USER_CANCELED: Alert = Alert(90);
    /// TLS 1.2: the sender does not renegotiate (RFC 5246 section 7.2.2).
    pub const NO_RENEGOTIATION: Alert = Alert(100);
    /// A hello without an extension that it must have (RFC 8446 section 9.2).
    pub const MISSING_EXTENSION: Alert = Alert(109);
    /// No certificate for the name that the client asked for (RFC 6066 section 3).
    pub const UNRECOGNIZED_NAME: Alert = Alert(112);
    /// A client certificate is required and there is none.
    pub const CERTIFICATE_REQUIRED: Alert = Alert(116);
    /// No application protocol in common (RFC 7301 section 3.2).
    pub const NO_APPLICATION_PROTOCOL: Alert = Alert(120);
}
