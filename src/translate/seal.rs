//! How does a client carry a seal that its dialect has no word for?
//!
//! Anthropic's clients send back `signature` and `data` unchanged, whoever made them. Anthropic's
//! own seals are written as they are (base64, no colon); another's gets its issuer before it
//! (`google:…`, `openai:rs_1:…`), so that it goes back to its issuer and to nobody else. Clients of
//! OpenAI responses do the same with `encrypted_content`.

use super::form::{Issuer, Seal};

/// Writes a seal into Anthropic's signature.
pub(super) fn to_signature(seal: &Seal) -> String {
    carried(seal, Issuer::Anthropic)
}

/// Reads a seal from Anthropic's signature; nothing where it is empty.
pub(super) fn of_signature(signature: String) -> Option<Seal> {
    brought(signature, Issuer::Anthropic)
}

/// Writes a seal for a client whose dialect is that of the issuer `own`, whose seals go bare.
pub(super) fn carried(seal: &Seal, own: Issuer) -> String {
    match seal.issuer {
        issuer if issuer == own => seal.text.clone(),
        Issuer::Anthropic => format!("anthropic:{}", seal.text),
        Issuer::Google => format!("google:{}", seal.text),
        Issuer::OpenAi => format!("openai:{}:{}", seal.id.as_deref().unwrap_or_default(), seal.text),
        Issuer::Other => format!("other:{}", seal.text),
    }
}

/// Reads what [`carried`] wrote; nothing where it is empty.
pub(super) fn brought(text: String, own: Issuer) -> Option<Seal> {
    if text.is_empty() {
        return None;
    }
    let foreign = |issuer, text: &str, id: &str| {
        Some(Seal { issuer, text: text.to_owned(), id: (!id.is_empty()).then(|| id.to_owned()) })
    };
    match text.split_once(':') {
        Some(("anthropic", text)) => foreign(Issuer::Anthropic, text, ""),
        Some(("google", text)) => foreign(Issuer::Google, text, ""),
        Some(("other", text)) => foreign(Issuer::Other, text, ""),
        Some(("openai", rest)) => {
            let (id, text) = rest.split_once(':').unwrap_or(("", rest));
            foreign(Issuer::OpenAi, text, id)
        }
        Some(_) | None => Some(Seal { issuer: own, text, id: None }),
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
            assert_eq!(of_signature(to_signature(&seal)), Some(seal.clone()));
            let bare = Seal { id: seal.id.clone().filter(|_| issuer != Issuer::OpenAi), ..seal.clone() };
            assert_eq!(brought(carried(&seal, Issuer::OpenAi), Issuer::OpenAi), Some(bare));
        }
        assert_eq!(of_signature(String::new()), None);
    }
}
