//! Takes JSON apart member by member.
//!
//! A reader of a dialect *takes* the members that it knows from an [`Object`]; what is left is
//! what it does not know, and goes into an [`Extra`] unread. Values stay slices of the body until
//! somebody asks for their text, so that numbers and schemas keep the form their writer gave them.
//! A member of another type than expected reads as absent, as everywhere in `wire`.

use super::Untranslatable;
use super::form::{Extra, Json};
use crate::base::api::Dialect;
use crate::wire::json::{Broken, Scan};
use serde_json::Number;
use std::borrow::Cow;

/// A JSON value, unread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a>(&'a str);

/// The members of an object, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Object<'a> {
    members: Vec<(Cow<'a, str>, Raw<'a>)>,
}

impl<'a> Raw<'a> {
    /// Checks the whole text; nothing where it is not JSON.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut scan = Scan::new(text.as_bytes());
        scan.skip().ok()?;
        scan.end().ok()?;
        Some(Raw(text.trim_ascii()))
    }

    /// Takes what was checked before.
    pub(super) fn of(json: &'a Json) -> Self {
        Raw(json.as_str().trim_ascii())
    }

    /// Returns the text.
    pub(super) fn as_str(self) -> &'a str {
        self.0
    }

    /// Keeps the value as it is.
    pub(super) fn json(self) -> Json {
        Json::checked(self.0)
    }

    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    pub(super) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub(super) fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    /// Returns the text of a string, unescaped; a lone half of a surrogate pair is replaced.
    pub(super) fn text(self) -> Option<String> {
        let text = Scan::new(self.0.as_bytes()).text().ok()??;
        Some(text.text().into_owned())
    }

    pub(super) fn flag(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Returns a number as it was written.
    pub(super) fn number(self) -> Option<Number> {
        self.0.parse().ok()
    }

    pub(super) fn count(self) -> Option<u64> {
        Scan::new(self.0.as_bytes()).count().ok()?
    }

    /// Returns the members of an object; none of anything else.
    pub(super) fn object(self) -> Object<'a> {
        let mut members = Vec::new();
        let mut scan = Scan::new(self.0.as_bytes());
        // The text was checked as a whole before.
        let _ = scan.members::<Broken>(|scan, key| {
            let range = scan.skip()?;
            if let Some(value) = self.0.get(range) {
                members.push((key.text(), Raw(value)));
            }
            Ok(())
        });
        Object { members }
    }

    /// Returns the items of an array; none of anything else.
    pub(super) fn items(self) -> Vec<Raw<'a>> {
        let mut items = Vec::new();
        self.each(|item| items.push(item));
        items
    }

    /// Returns the items of an array that are objects; none of anything else.
    pub(super) fn objects(self) -> Vec<Raw<'a>> {
        let mut items = Vec::new();
        self.each(|item| items.extend(item.is_object().then_some(item)));
        items
    }

    /// Returns the items of an array of nothing but objects, of which a body has no more than
    /// [`super::OBJECTS_MAX`]; none of what is no array. What a request holds in their place is nothing
    /// that a provider takes, and has less bytes than we would make of it.
    ///
    /// # Errors
    /// Where an item is no object: `member` is its name.
    pub(super) fn objects_only(self, member: &'static str) -> Result<Vec<Raw<'a>>, Untranslatable> {
        let (mut items, mut are_objects) = (Vec::new(), true);
        self.each(|item| {
            are_objects &= item.is_object();
            items.extend(are_objects.then_some(item));
        });
        if are_objects { Ok(items) } else { Err(Untranslatable::Member(member)) }
    }

    fn each(self, mut on: impl FnMut(Raw<'a>)) {
        // The text was checked as a whole before.
        let _ = Scan::new(self.0.as_bytes()).items::<Broken>(|scan| {
            let range = scan.skip()?;
            self.0.get(range).map(Raw).into_iter().for_each(&mut on);
            Ok(())
        });
    }
}

/// Counts the objects in a JSON text.
pub(super) fn count_objects(text: &[u8]) -> usize {
    let (mut rest, mut count, mut is_text) = (text, 0, false);
    while let Some(at) = memchr::memchr3(b'"', b'{', b'\\', rest) {
        // An escape stands in a text only, and takes the byte behind it along.
        let escape = usize::from(rest.get(at) == Some(&b'\\'));
        is_text ^= rest.get(at) == Some(&b'"');
        count += usize::from(!is_text && rest.get(at) == Some(&b'{'));
        rest = rest.get(at + 1 + escape..).unwrap_or_default();
    }
    count
}

/// Half of a surrogate pair that one piece of a text ends with, until the next brings the other:
/// servers that count in UTF-16 cut emojis in two.
#[derive(Debug, Default)]
pub(super) struct Half(Option<String>);

impl Half {
    /// Returns the text of a string, unescaped, behind the half that waits and without the half that
    /// it ends with; nothing of what is no string.
    pub(super) fn join(&mut self, raw: Raw<'_>) -> Option<String> {
        let inner = raw.0.strip_prefix('"')?.strip_suffix('"')?;
        let at = first_half(inner);
        if inner.is_empty() || (self.0.is_none() && at.is_none()) {
            return raw.text();
        }
        let (now, later) = inner.split_at_checked(at.unwrap_or(inner.len()))?;
        let waited = self.0.take().unwrap_or_default();
        self.0 = at.map(|_| later.to_owned());
        Raw(&format!("\"{waited}{now}\"")).text()
    }

    /// Returns what stands for a half whose other never came.
    pub(super) fn end(&mut self) -> Option<String> {
        self.0.take().map(|_| char::REPLACEMENT_CHARACTER.to_string())
    }
}

/// Finds the escape of the first half of a surrogate pair at the end of a string's inner text.
fn first_half(inner: &str) -> Option<usize> {
    let at = inner.len().checked_sub(6)?;
    let code = u16::from_str_radix(inner.get(at..)?.strip_prefix("\\u")?, 16).ok()?;
    // An even number of backslashes before it are texts of their own.
    let before = inner.get(..at)?.bytes().rev().take_while(|byte| *byte == b'\\').count();
    ((0xd800..0xdc00).contains(&code) && before.is_multiple_of(2)).then_some(at)
}

impl<'a> Object<'a> {
    /// Takes a member out; null reads as absent. Of a name given twice the last counts.
    pub(super) fn take(&mut self, name: &str) -> Option<Raw<'a>> {
        let mut found = None;
        self.members.retain(|(key, value)| {
            let is_it = key == name;
            if is_it {
                found = Some(*value);
            }
            !is_it
        });
        found.filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name)?.text()
    }

    pub(super) fn number(&mut self, name: &str) -> Option<Number> {
        self.take(name)?.number()
    }

    pub(super) fn count(&mut self, name: &str) -> Option<u64> {
        self.take(name)?.count()
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name)?.flag()
    }

    /// Takes a member's own members; none where it is no object.
    pub(super) fn object(&mut self, name: &str) -> Object<'a> {
        self.take(name).map(Raw::object).unwrap_or_default()
    }

    /// Takes a member's items, which must be objects; none where it is no array.
    ///
    /// # Errors
    /// See [`Raw::objects_only`].
    pub(super) fn objects_only(
        &mut self,
        name: &str,
        member: &'static str,
    ) -> Result<Vec<Raw<'a>>, Untranslatable> {
        self.take(name).map_or(Ok(Vec::new()), |raw| raw.objects_only(member))
    }

    /// Takes a member's items; none where it is no array.
    pub(super) fn items(&mut self, name: &str) -> Vec<Raw<'a>> {
        self.take(name).map(Raw::items).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Drops members that say nothing to anybody else.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        self.members.retain(|(key, _)| !names.contains(&key.as_ref()));
    }

    /// Drops a tier of service that is the usual one, which is all that others have.
    pub(super) fn ignore_usual_tier(&mut self) {
        let is_usual = |value: &Raw<'_>| {
            matches!(value.text().as_deref(), Some("auto" | "default" | "standard" | "standard_only"))
        };
        self.members.retain(|(key, value)| key != "service_tier" || !is_usual(value));
    }

    /// Returns what was not taken, in order.
    pub(super) fn into_members(self) -> impl Iterator<Item = (Cow<'a, str>, Raw<'a>)> {
        self.members.into_iter()
    }

    /// Keeps what was not taken.
    pub(super) fn rest(self, owner: Dialect) -> Extra {
        let kept = self.members.into_iter().filter(|(_, value)| !value.is_null());
        let members: Vec<_> = kept.map(|(key, value)| (key.into_owned(), value.json())).collect();
        Extra { owner: (!members.is_empty()).then_some(owner), members }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_kept_as_it_was_written() {
        let text = br#" {"a":1.0,"b":"x\u00e9","c":{"d":[1, 2e3 ]},"n":null,"e\u0066":true} "#;
        let mut object = Raw::parse(text).unwrap().object();
        assert_eq!(object.text("b").as_deref(), Some("x\u{e9}"));
        assert_eq!(object.flag("ef"), Some(true));
        assert_eq!(object.text("b"), None, "it was taken");
        let rest = object.rest(Dialect::OpenAiChat);
        let rest: Vec<_> = rest.members.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(rest, [("a", "1.0"), ("c", r#"{"d":[1, 2e3 ]}"#)]);
    }

    #[test]
    fn halves_of_a_pair_are_joined_and_lone_ones_replaced() {
        for (pieces, want) in [
            (&[r#""a\ud83d""#, r#""""#, r#""\ude00b""#][..], &["a", "", "\u{1f600}b"][..]),
            (&[r#""\uD83D\uDE00""#, r#""x""#], &["\u{1f600}", "x"]),
            (&[r#""a\ud83d""#, r#""b""#], &["a", "\u{fffd}b"]),
            (&[r#""a\ud83d""#], &["a", "\u{fffd}"]),
            (&[r#""\ude00b\\ud83d""#], &["\u{fffd}b\\ud83d"]),
        ] {
            let mut half = Half::default();
            let joined = |piece: &&str| half.join(Raw::parse(piece.as_bytes()).unwrap()).unwrap();
            let mut got: Vec<String> = pieces.iter().map(joined).collect();
            got.extend(half.end());
            assert_eq!(got, want, "{pieces:?}");
        }
        assert_eq!(Half::default().join(Raw::parse(b"[1]").unwrap()), None);
    }

    #[test]
    fn a_value_of_another_type_reads_as_absent() {
        let mut object = Raw::parse(br#"{"a":7,"b":"x","c":"y","d":{},"e":[]}"#).unwrap().object();
        assert_eq!(object.text("a"), None);
        assert_eq!(object.number("b"), None);
        assert!(object.object("c").is_empty() && object.items("d").is_empty());
        for text in [&b""[..], b"{", b"{} x", b"\xff", b"nul"] {
            assert!(Raw::parse(text).is_none(), "{text:?}");
        }
    }
}
