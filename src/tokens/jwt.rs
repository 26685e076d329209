//! How is a request for a Google token signed?
//!
//! A JSON Web Token: header and claims as base64url, joined by a dot, signed with the service
//! account's RSA key (RS256), the signature behind another dot. The assembling is pure; the
//! signature takes `ring`, which is in the tree as rustls' own arithmetic.
//!
//! Source: RFC 7515 section 3.1, RFC 7518 section 3.3.

use crate::base::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// The key of a service account, ready to sign.
pub struct Signer {
    key: KeyPair,
    key_id: Option<String>,
}

/// The key cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key is no RSA key of 2048 bits or more (PKCS #8, PEM)")]
pub struct KeyFault;

impl Signer {
    /// Reads a PEM text.
    ///
    /// # Errors
    /// [`KeyFault`].
    pub fn read(pem: &Secret, key_id: Option<String>) -> Result<Signer, KeyFault> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| KeyFault)?;
        let key = KeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| KeyFault)?;
        Ok(Signer { key, key_id })
    }

    /// Signs claims. Takes about a millisecond.
    ///
    /// # Errors
    /// Where the system has no random numbers (they hide the key's use from clocks).
    pub fn sign(&self, claims: &Value) -> Result<Secret, KeyFault> {
        let text = unsigned(claims, self.key_id.as_deref());
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| KeyFault)?;
        Ok(Secret::new(format!("{text}.{}", base64url(&signature))))
    }
}

/// Returns header and claims, as they are signed.
fn unsigned(claims: &Value, key_id: Option<&str>) -> String {
    let mut header = json!({"alg": "RS256", "typ": "JWT"});
    if let Some(key_id) = key_id {
        header["kid"] = json!(key_id);
    }
    format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
}

/// Encodes bytes as base64url without padding (RFC 4648 section 5).
fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_the_rfc() {
        for (bytes, want) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"fooba", "Zm9vYmE"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff\xfe", "-__-"),
        ] {
            assert_eq!(base64url(bytes), want);
        }
    }

    #[test]
    fn header_and_claims_are_joined_by_a_dot() {
        let text = unsigned(&json!({"iss": "a"}), Some("k"));
        let want =
            [&br#"{"alg":"RS256","typ":"JWT","kid":"k"}"#[..], br#"{"iss":"a"}"#].map(base64url).join(".");
        assert_eq!(text, want);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        for pem in ["", "canary", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            let fault = Signer::read(&Secret::new(pem.to_owned()), None).err().unwrap();
            assert!(!fault.to_string().contains("canary"));
        }
    }
}
