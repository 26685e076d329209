//! `/ui`: what does an operator see in a browser?
//!
//! One page with one script and one sheet of style, all compiled in: no build step, no foreign
//! host, nothing to install. The page is a reader of the same paths as everybody else (`/v1/...`);
//! it shows nothing that they do not tell, and no data goes through this room.
//!
//! **Who may see it.** Anybody whom the listener answers: a browser that goes to an address cannot
//! send a token with it, and the three files are the same in every installation. What they show is
//! asked for with the token wherever that is wanted, by the script, which keeps it for the tab.
//!
//! **What it may do** is said by [`POLICY`]: scripts, styles and calls of its own origin only,
//! nothing inline, no form that leads anywhere, no frame around it (a page of somebody else's could
//! let an operator click through it). Texts are set as text, never as markup.
//!
//! The script is written in parts that are put together here, each for one panel, and is sent as
//! one module. A browser asks each time whether it is still the same (`no-cache` with an `ETag`), so
//! that after an upgrade nobody looks at the page of the program before.

use super::answer::Answer;
use crate::base::hex;
use http::HeaderMap;
use http::header::IF_NONE_MATCH;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// What the page may do, as Content Security Policy, level 3.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The parts of the script, in the order in which they build on each other.
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/ask.js"),
    include_str!("page/history.js"),
    include_str!("page/spark.js"),
    include_str!("page/why.js"),
    include_str!("page/act.js"),
    include_str!("page/targets.js"),
    include_str!("page/routes.js"),
    include_str!("page/failovers.js"),
    include_str!("page/usage.js"),
    include_str!("page/config.js"),
    include_str!("page/app.js"),
);

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    Page,
    Script,
    Style,
}

impl Asset {
    /// Finds the file at a path.
    pub(super) fn at(path: &str) -> Option<Asset> {
        match path {
            "/ui" => Some(Asset::Page),
            "/ui/app.js" => Some(Asset::Script),
            "/ui/style.css" => Some(Asset::Style),
            _ => None,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Asset::Page => "text/html; charset=utf-8",
            Asset::Script => "text/javascript; charset=utf-8",
            Asset::Style => "text/css; charset=utf-8",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Asset::Page => include_str!("page/index.html"),
            Asset::Script => SCRIPT,
            Asset::Style => include_str!("page/style.css"),
        }
    }

    /// Its header fields. The tag is of the text, so that two builds of one version are told apart.
    fn headers(self) -> &'static [(&'static str, String)] {
        static PAGE: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| headers_of(Asset::Page.text()));
        static SCRIPT: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| headers_of(Asset::Script.text()));
        static STYLE: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| headers_of(Asset::Style.text()));
        match self {
            Asset::Page => &PAGE,
            Asset::Script => &SCRIPT,
            Asset::Style => &STYLE,
        }
    }
}

/// Returns a file of the page.
pub(super) fn answer(asset: Asset) -> Answer {
    Answer { headers: asset.headers(), ..Answer::ok(asset.content_type(), asset.text().as_bytes().to_vec()) }
}

/// Turns an answer into a 304 where the client has it already (RFC 9110, section 13.1.2).
pub(super) fn unless_known(answer: Answer, asked: &HeaderMap) -> Answer {
    let Some((_, tag)) = answer.headers.iter().find(|(name, _)| *name == "etag") else { return answer };
    let mut known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.any(|list| {
        list.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == tag || one == "*")
    });
    if is_known { Answer { status: 304, body: Vec::new(), ..answer } } else { answer }
}

fn headers_of(text: &str) -> Vec<(&'static str, String)> {
    let digest = hex::encode(&Sha256::digest(text.as_bytes()));
    let tag = format!("\"{}\"", digest.get(..24).unwrap_or(&digest));
    vec![
        ("etag", tag),
        ("cache-control", "no-cache".to_owned()),
        ("content-security-policy", POLICY.to_owned()),
        ("referrer-policy", "no-referrer".to_owned()),
        ("cross-origin-opener-policy", "same-origin".to_owned()),
        ("cross-origin-resource-policy", "same-origin".to_owned()),
    ]
}

/// Adds what makes a browser ask for the token: it cannot send one with an address alone.
pub(super) fn challenge(refusal: Answer) -> Answer {
    static BASIC: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
        vec![("www-authenticate", r#"Basic realm="pointsman", charset="UTF-8""#.to_owned())]
    });
    Answer { headers: &BASIC, ..refusal }
}
