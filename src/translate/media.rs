//! Where are the bytes of an image, a document, a sound?
//!
//! OpenAI has `data:` URLs where others have a media type and base64 beside it.

use super::form::Source;
use super::loss::Loss;
use crate::base::api::Dialect;

/// Reads an address, or base64 with a `data:` head. A bare text without any scheme is base64
/// whose type its name tells (`file_data` is sent so).
pub(super) fn of_url(url: String, name: Option<&str>) -> Source {
    if let Some((head, data)) = url.strip_prefix("data:").and_then(|rest| rest.split_once(','))
        && let Some(media_type) = head.strip_suffix(";base64")
    {
        // Parameters (`;charset=…`) say nothing of the sort.
        let media_type = media_type.split(';').next().unwrap_or_default();
        return Source::Base64 { media_type: named(media_type), data: data.to_owned() };
    }
    if !url.contains(':') {
        let is_pdf = name.is_none_or(|name| name.to_ascii_lowercase().ends_with(".pdf"));
        let media_type = if is_pdf { "application/pdf" } else { "application/octet-stream" }.to_owned();
        return Source::Base64 { media_type, data: url };
    }
    Source::Url { url, media_type: None }
}

/// Returns the name of a media type that everybody knows: `image/jpg` is none, but what many clients
/// write and few providers take.
pub(super) fn named(media_type: &str) -> String {
    let name = media_type.trim().to_ascii_lowercase();
    if name == "image/jpg" { "image/jpeg".to_owned() } else { name }
}

/// Writes an address or a `data:` URL; nothing where the bytes are at another provider. `reader`
/// is the dialect that will read it.
pub(super) fn to_url(source: &Source, reader: Dialect) -> Option<String> {
    match source {
        Source::Url { url, .. } => Some(url.clone()),
        Source::Base64 { media_type, data } => Some(format!("data:{media_type};base64,{data}")),
        Source::Text(_) => None,
        // Some compatible servers take the id in the place of the address.
        Source::File { owner, id } => (*owner == reader).then(|| id.clone()),
    }
}

/// Returns what is lost with a source that cannot be written: a file elsewhere, or `kind`.
pub(super) fn loss(source: &Source, kind: Loss) -> Loss {
    match source {
        Source::File { .. } => Loss::File,
        Source::Url { .. } | Source::Base64 { .. } | Source::Text(_) => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_urls_are_taken_apart_and_put_together() {
        for url in ["data:image/png;base64,AAAA", "https://x.example/a.png", "gs://b/c"] {
            assert_eq!(to_url(&of_url(url.to_owned(), None), Dialect::OpenAiChat).as_deref(), Some(url));
        }
        let png = Source::Base64 { media_type: "image/png".to_owned(), data: "AA".to_owned() };
        assert_eq!(of_url("data:image/png;charset=utf-8;base64,AA".to_owned(), None), png);
        let pdf = Source::Base64 { media_type: "application/pdf".to_owned(), data: "JVBER".to_owned() };
        assert_eq!(of_url("JVBER".to_owned(), Some("a.PDF")), pdf);
        let jpeg = Source::Base64 { media_type: "image/jpeg".to_owned(), data: "AA".to_owned() };
        for written in ["image/jpg", "Image/JPG", "image/jpeg"] {
            assert_eq!(of_url(format!("data:{written};base64,AA"), None), jpeg, "{written}");
        }
        let elsewhere = Source::File { owner: Dialect::AnthropicMessages, id: "f".to_owned() };
        assert_eq!(to_url(&elsewhere, Dialect::OpenAiChat), None);
        assert_eq!(loss(&elsewhere, Loss::Image), Loss::File);
    }
}
