//! How does a client of Gemini carry a seal that Google did not make?
//!
//! Its SDKs take a signature for bytes: they decode it and encode it again, in either alphabet of
//! base64, and Python's refuses an answer whose signature is not base64. Google's own are, and go
//! bare. Another's may be anything (`rsn_…`, two pieces of base64 one after the other, a colon
//! inside), so its text is written in base64 once more, behind sixteen characters of the alphabet
//! that name the issuer.

use super::{UNSIGNED, UNSIGNED_FOR_CLIENTS};
use crate::translate::form::{Issuer, Seal};

/// Names of issuers before a seal; four characters each are three whole bytes, so that what
/// follows is not shifted.
const CARRIED: [(&str, Issuer); 3] = [
    ("sealedByClaude00", Issuer::Anthropic),
    ("sealedByOpenAi00", Issuer::OpenAi),
    ("sealedByOthers00", Issuer::Other),
];

/// The alphabet that Go's and Java's decoders want.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes a seal for a client of Gemini.
pub(super) fn carried(seal: &Seal) -> String {
    match CARRIED.iter().find(|(_, issuer)| *issuer == seal.issuer) {
        Some((head, _)) => format!("{head}{}", encoded(seal.text.as_bytes())),
        None => seal.text.clone(),
    }
}

/// Reads what [`carried`] wrote; nothing where a seal was not brought whole.
pub(super) fn brought(text: &str) -> Option<Seal> {
    if text.is_empty() || text == UNSIGNED || text == UNSIGNED_FOR_CLIENTS {
        return None;
    }
    let foreign = CARRIED.iter().find_map(|(head, issuer)| Some((*issuer, text.strip_prefix(head)?)));
    let (issuer, text) = match foreign {
        Some((issuer, text)) => (issuer, String::from_utf8(decoded(text)?).ok()?),
        None => (Issuer::Google, text.to_owned()),
    };
    Some(Seal { issuer, text, id: None })
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| (bits << 8) | u32::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = ALPHABET.get((bits >> (18 - 6 * at)) as usize & 63).copied().unwrap_or(b'=');
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Decodes either alphabet, with or without its padding.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_base64(text: &str) -> bool {
        let digits = text.trim_end_matches('=');
        digits.bytes().all(|byte| ALPHABET.contains(&byte)) && text.len().is_multiple_of(4)
    }

    #[test]
    fn seals_of_others_are_base64_and_come_back_in_either_alphabet() {
        for (issuer, text) in [
            (Issuer::Anthropic, "Ab+/cd=="),
            (Issuer::Anthropic, "c2ln"),
            (Issuer::OpenAi, "gAA-_A=="),
            // Amazon's, and what two pieces of base64 come to.
            (Issuer::OpenAi, "rsn_5ZVr+/k="),
            (Issuer::OpenAi, "gAAA==yNS0"),
            (Issuer::Other, "bedrock:c2VjcmV0"),
        ] {
            let seal = Seal { issuer, text: text.to_owned(), id: None };
            let signature = carried(&seal);
            assert!(is_base64(&signature), "{signature}");
            for told in [
                signature.clone(),
                signature.replace('+', "-").replace('/', "_"),
                signature.trim_end_matches('=').to_owned(),
            ] {
                assert_eq!(brought(&told), Some(seal.clone()), "{told}");
            }
        }
        let own = Seal { issuer: Issuer::Google, text: "Cv+_-/8=".to_owned(), id: None };
        assert_eq!(brought(&carried(&own)), Some(own));
        assert_eq!((brought(UNSIGNED), brought(UNSIGNED_FOR_CLIENTS)), (None, None));
        assert!(is_base64(UNSIGNED_FOR_CLIENTS));
        assert_eq!(decoded(UNSIGNED_FOR_CLIENTS), decoded(UNSIGNED));
        assert_eq!(brought("sealedByClaude00!"), None, "a seal that was broken on its way is dropped");
    }

    proptest! {
        #[test]
        fn whatever_was_encoded_is_decoded(bytes: Vec<u8>) {
            prop_assert!(is_base64(&encoded(&bytes)));
            prop_assert_eq!(decoded(&encoded(&bytes)), Some(bytes));
        }
    }
}
