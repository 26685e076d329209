//! How does a client carry a seal that its dialect has no word for?
//!
//! Anthropic's clients send back `signature` and `data` unchanged, whoever made them. Anthropic's
//! own seals are written as they are (base64, no colon); another's gets its issuer before it
//! (`google:…`, `openai:rs_1:…`), so that it goes back to its issuer and to nobody else.

use super::form::{Issuer, Seal};

/// Writes a seal into a signature.
pub(super) fn to_signature(seal: &Seal) -> String {
    match seal.issuer {
        Issuer::Anthropic => seal.text.clone(),
        Issuer::Google => format!("google:{}", seal.text),
        Issuer::OpenAi => format!("openai:{}:{}", seal.id.as_deref().unwrap_or_default(), seal.text),
        Issuer::Other => format!("other:{}", seal.text),
    }
}

/// Reads a seal from a signature; nothing where it is empty.
pub(super) fn of_signature(signature: String) -> Option<Seal> {
    if signature.is_empty() {
        return None;
    }
    let foreign = |issuer, text: &str, id: &str| {
        Some(Seal { issuer, text: text.to_owned(), id: (!id.is_empty()).then(|| id.to_owned()) })
    };
    match signature.split_once(':') {
        Some(("google", text)) => foreign(Issuer::Google, text, ""),
        Some(("other", text)) => foreign(Issuer::Other, text, ""),
        Some(("openai", rest)) => {
            let (id, text) = rest.split_once(':').unwrap_or(("", rest));
            foreign(Issuer::OpenAi, text, id)
        }
        Some(_) | None => Some(Seal { issuer: Issuer::Anthropic, text: signature, id: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_comes_back_as_its_issuer_s() {
        for (issuer, id) in [
            (Issuer::Anthropic, None),
            (Issuer::Google, None),
            (Issuer::Other, None),
            (Issuer::OpenAi, None),
            (Issuer::OpenAi, Some("rs_1".to_owned())),
        ] {
            let seal = Seal { issuer, text: "Ab+/=".to_owned(), id };
            assert_eq!(of_signature(to_signature(&seal)), Some(seal));
        }
        assert_eq!(of_signature(String::new()), None);
    }
}
