//! Signatures of tokens by ring, for jsonwebtoken, which leaves them to others.
//!
//! Nothing is signed here, and no key is made. What ring refuses by itself: keys of RSA below 2048 bits, points that
//! are not on the curve, signatures of another length.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::{hmac, signature as public};
use signature::Verifier;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// From now on jsonwebtoken verifies by this; more than once is the same.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

/// # Errors
/// The key is not of the algorithm's family.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the library calls it")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() }))
}

/// A key for one algorithm of its family.
struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let is_good = match self.algorithm.family() {
            AlgorithmFamily::Hmac => self.is_mac(message, signature),
            AlgorithmFamily::Rsa => self.is_of_rsa(message, signature),
            AlgorithmFamily::Ec | AlgorithmFamily::Ed => self.is_of_curve(message, signature),
        };
        if is_good == Some(true) { Ok(()) } else { Err(signature::Error::new()) }
    }
}

/// Each is `None` where the algorithm is of another family.
impl ByRing {
    /// Compared in constant time.
    fn is_mac(&self, message: &[u8], mac: &[u8]) -> Option<bool> {
        let algorithm = match self.algorithm {
            Algorithm::HS256 => hmac::HMAC_SHA256,
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => return None,
        };
        let key = hmac::Key::new(algorithm, self.key.try_get_as_bytes().ok()?);
        Some(hmac::verify(&key, message, mac).is_ok())
    }

    fn is_of_rsa(&self, message: &[u8], signature: &[u8]) -> Option<bool> {
        let algorithm = match self.algorithm {
            Algorithm::RS256 => &public::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &public::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &public::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &public::RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &public::RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &public::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        };
        let verified = match self.key.kind() {
            DecodingKeyKind::SecretOrDer(der) => {
                public::UnparsedPublicKey::new(algorithm, der).verify(message, signature)
            }
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                public::RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature)
            }
        };
        Some(verified.is_ok())
    }

    fn is_of_curve(&self, message: &[u8], signature: &[u8]) -> Option<bool> {
        let algorithm: &dyn public::VerificationAlgorithm = match self.algorithm {
            Algorithm::ES256 => &public::ECDSA_P256_SHA256_FIXED,
            Algorithm::ES384 => &public::ECDSA_P384_SHA384_FIXED,
            Algorithm::EdDSA => &public::ED25519,
            _ => return None,
        };
        let key = self.key.try_get_as_bytes().ok()?;
        Some(algorithm.verify(key.into(), message.into(), signature.into()).is_ok())
    }
}
