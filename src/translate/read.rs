//! Takes JSON apart member by member.
//!
//! A reader of a dialect *takes* the members that it knows from an [`Object`]; what is left is
//! what it does not know, and goes into an [`Extra`] unread. Values stay slices of the body until
//! somebody asks for their text, so that numbers and schemas keep the form their writer gave them.
//! A member of another type than expected reads as absent, as everywhere in `wire`.

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

    /// Returns the text.
    pub(super) fn as_str(self) -> &'a str {
        self.0
    }

    /// Counts the objects in it, itself included.
    pub(super) fn objects(self) -> usize {
        let mut rest = self.0.as_bytes();
        let (mut count, mut is_text) = (0, false);
        while let Some(at) = memchr::memchr3(b'"', b'{', b'\\', rest) {
            // An escape stands in a text only, and takes the byte behind it along.
            let escape = usize::from(rest.get(at) == Some(&b'\\'));
            is_text ^= rest.get(at) == Some(&b'"');
            count += usize::from(!is_text && rest.get(at) == Some(&b'{'));
            rest = rest.get(at + 1 + escape..).unwrap_or_default();
        }
        count
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

    /// Returns the text of a string, unescaped.
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
        let mut scan = Scan::new(self.0.as_bytes());
        let _ = scan.items::<Broken>(|scan| {
            let range = scan.skip()?;
            items.extend(self.0.get(range).map(Raw));
            Ok(())
        });
        items
    }
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
