//! Why a handshake failed: sorted from what rustls says into reasons that an operator can count, each with its alert.

use super::Alert;
use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Why a handshake failed. Where the peer's certificate is meant, that is a client's on a listener and a server's
/// towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The first bytes are an HTTP request in clear text; nothing of TLS was sent.
    PlainHttp,
    /// The first bytes are no TLS record.
    NotTls,
    /// No version in common.
    NoCommonVersion,
    /// No cipher suite, group or signature scheme in common.
    NoCommonCipher,
    /// No application protocol in common (ALPN).
    NoCommonProtocol,
    /// There is no certificate for the name that the client asks for.
    NoCertificateForName,
    /// The peer has presented no certificate, and one is required.
    CertificateMissing,
    /// The peer's certificate has expired, or is not valid yet.
    CertificateExpired,
    /// The peer's certificate was issued by nobody whom this end trusts.
    CertificateUnknownIssuer,
    /// The peer's certificate has been revoked, or a revocation list has expired.
    CertificateRevoked,
    /// The peer's certificate is for another name.
    CertificateName,
    /// The peer's certificate is not valid for another cause.
    CertificateInvalid,
    /// A message that cannot be parsed, or breaks the protocol.
    Malformed,
    /// More bytes of an unfinished flight than [`MAX_HELLO`](super::MAX_HELLO) or, after it,
    /// [`MAX_UNFINISHED`](super::MAX_UNFINISHED).
    TooLong,
    /// Something that did not decrypt, or a signature or Finished that is not correct.
    Decrypt,
    /// The peer has ended the handshake, with this alert: it does not accept this end.
    Refused(Alert),
    /// A fault of this end.
    Internal,
}

impl Reason {
    /// The reason as one word, for a log or the label of a counter.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::PlainHttp => "plain_http",
            Reason::NotTls => "not_tls",
            Reason::NoCommonVersion => "no_common_version",
            Reason::NoCommonCipher => "no_common_cipher",
            Reason::NoCommonProtocol => "no_common_protocol",
            Reason::NoCertificateForName => "no_certificate_for_name",
            Reason::CertificateMissing => "certificate_missing",
            Reason::CertificateExpired => "certificate_expired",
            Reason::CertificateUnknownIssuer => "certificate_unknown_issuer",
            Reason::CertificateRevoked => "certificate_revoked",
            Reason::CertificateName => "certificate_name",
            Reason::CertificateInvalid => "certificate_invalid",
            Reason::Malformed => "malformed",
            Reason::TooLong => "too_long",
            Reason::Decrypt => "decrypt",
            Reason::Refused(_) => "refused_by_peer",
            Reason::Internal => "internal",
        }
    }

    /// The words of all reasons, by [`number`](Reason::number).
    pub const WORDS: [&'static str; 17] = [
        Reason::PlainHttp.word(),
        Reason::NotTls.word(),
        Reason::NoCommonVersion.word(),
        Reason::NoCommonCipher.word(),
        Reason::NoCommonProtocol.word(),
        Reason::NoCertificateForName.word(),
        Reason::CertificateMissing.word(),
        Reason::CertificateExpired.word(),
        Reason::CertificateUnknownIssuer.word(),
        Reason::CertificateRevoked.word(),
        Reason::CertificateName.word(),
        Reason::CertificateInvalid.word(),
        Reason::Malformed.word(),
        Reason::TooLong.word(),
        Reason::Decrypt.word(),
        Reason::Refused(Alert::CLOSE_NOTIFY).word(),
        Reason::Internal.word(),
    ];

    /// The reason as a number, for a table of counters: its place in [`WORDS`](Reason::WORDS).
    pub fn number(self) -> usize {
        Reason::WORDS.iter().position(|word| *word == self.word()).unwrap_or_default()
    }

    /// The alert that says so, of level fatal; where rustls has sent one, that may be a more exact one. `None`: nothing
    /// is sent.
    pub const fn alert(self) -> Option<Alert> {
        Some(match self {
            Reason::PlainHttp | Reason::Refused(_) => return None,
            Reason::NotTls => Alert::UNEXPECTED_MESSAGE,
            Reason::NoCommonVersion => Alert::PROTOCOL_VERSION,
            Reason::NoCommonCipher => Alert::HANDSHAKE_FAILURE,
            Reason::NoCommonProtocol => Alert::NO_APPLICATION_PROTOCOL,
            Reason::NoCertificateForName => Alert::UNRECOGNIZED_NAME,
            Reason::CertificateMissing => Alert::CERTIFICATE_REQUIRED,
            Reason::CertificateExpired => Alert::CERTIFICATE_EXPIRED,
            Reason::CertificateUnknownIssuer => Alert::UNKNOWN_CA,
            Reason::CertificateRevoked => Alert::CERTIFICATE_REVOKED,
            Reason::CertificateName | Reason::CertificateInvalid => Alert::BAD_CERTIFICATE,
            Reason::Malformed | Reason::TooLong => Alert::DECODE_ERROR,
            Reason::Decrypt => Alert::DECRYPT_ERROR,
            Reason::Internal => Alert::INTERNAL_ERROR,
        })
    }

    /// The alert that an RFC demands, or has for this and nothing else, where rustls says another: RFC 5246 appendix
    /// E.1, RFC 6066 section 3, and sections 5, 5.1 and 9.2 of RFC 8446.
    pub(super) fn demanded(self, detail: Option<&Error>) -> Option<Alert> {
        match (self, detail) {
            (Reason::NoCommonVersion | Reason::NoCertificateForName | Reason::NotTls, _) => self.alert(),
            (_, Some(Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired))) => {
                Some(Alert::MISSING_EXTENSION)
            }
            (_, Some(Error::InvalidMessage(InvalidMessage::MessageTooLarge))) => Some(Alert::RECORD_OVERFLOW),
            _ => None,
        }
    }

    /// Of what rustls says.
    pub(super) fn of(error: &Error) -> Reason {
        match error {
            Error::PeerIncompatible(what) => Reason::of_incompatible(what),
            Error::InvalidCertificate(what) => Reason::of_certificate(what),
            Error::NoCertificatesPresented => Reason::CertificateMissing,
            Error::NoApplicationProtocol => Reason::NoCommonProtocol,
            Error::AlertReceived(alert) => Reason::Refused(Alert(u8::from(*alert))),
            Error::DecryptError => Reason::Decrypt,
            Error::InvalidCertRevocationList(_) => Reason::CertificateRevoked,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord => Reason::Malformed,
            _ => Reason::Internal,
        }
    }

    fn of_incompatible(what: &PeerIncompatible) -> Reason {
        match what {
            // What rustls says of a hello of TLS 1.1 or older, since every client of 1.2 has the extension.
            PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled => Reason::NoCommonVersion,
            _ => Reason::NoCommonCipher,
        }
    }

    fn of_certificate(what: &CertificateError) -> Reason {
        match what {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::CertificateExpired,
            CertificateError::UnknownIssuer => Reason::CertificateUnknownIssuer,
            CertificateError::Revoked
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Reason::CertificateRevoked,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Reason::CertificateName
            }
            _ => Reason::CertificateInvalid,
        }
    }
}

/// A handshake that has failed. What there is to be sent to the peer has been appended to the buffer of the call that
/// returned this; then the connection is to be closed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// The alert that was sent; `None` where none was.
    pub alert: Option<Alert>,
    /// What rustls says about it, for a log.
    pub detail: Option<Error>,
}
