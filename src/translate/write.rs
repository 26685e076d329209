//! Puts JSON together member by member.
//!
//! Text goes straight into the body that is sent: no tree is built, and what was kept as JSON text
//! ([`Json`]) is copied as it is.

use super::form::{Extra, Json};
use serde_json::Number;

/// Writes a whole object.
pub(super) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    fill(&mut Object { out, is_first: true });
    out.push(b'}');
}

/// Writes a string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    // Writing into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// An object being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

/// An array being written.
pub(super) struct Array<'a> {
    out: &'a mut Vec<u8>,
    is_first: bool,
}

impl Object<'_> {
    fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push(b',');
        }
        text(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        text(self.key(name), value);
    }

    pub(super) fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub(super) fn null(&mut self, name: &str) {
        self.key(name).extend_from_slice(b"null");
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.key(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn flag_if(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.flag(name, value);
        }
    }

    pub(super) fn count(&mut self, name: &str, value: u64) {
        self.key(name).extend_from_slice(value.to_string().as_bytes());
    }

    pub(super) fn count_if(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.count(name, value);
        }
    }

    pub(super) fn number_if(&mut self, name: &str, value: Option<&Number>) {
        if let Some(value) = value {
            self.key(name).extend_from_slice(value.to_string().as_bytes());
        }
    }

    pub(super) fn json(&mut self, name: &str, value: &Json) {
        self.raw(name, value.as_str());
    }

    pub(super) fn json_if(&mut self, name: &str, value: Option<&Json>) {
        if let Some(value) = value {
            self.json(name, value);
        }
    }

    /// Writes text that is known to be JSON.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.key(name).extend_from_slice(json.as_bytes());
    }

    /// Writes text that is known to be JSON without the ends of its lines, which can only stand
    /// between its words.
    pub(super) fn raw_in_line(&mut self, name: &str, json: &str) {
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        self.key(name).extend(json.bytes().filter(|byte| !is_end(byte)));
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.key(name), fill);
    }

    pub(super) fn array(&mut self, name: &str, fill: impl FnOnce(&mut Array<'_>)) {
        let out = self.key(name);
        out.push(b'[');
        fill(&mut Array { out, is_first: true });
        out.push(b']');
    }

    pub(super) fn texts(&mut self, name: &str, values: &[String]) {
        self.array(name, |array| values.iter().for_each(|value| array.text(value)));
    }

    /// Writes the members that were kept for this dialect.
    pub(super) fn extra(&mut self, extra: &Extra) {
        for (name, value) in &extra.members {
            self.json(name, value);
        }
    }
}

impl Array<'_> {
    fn item(&mut self) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push(b',');
        }
        self.out
    }

    pub(super) fn text(&mut self, value: &str) {
        text(self.item(), value);
    }

    pub(super) fn json(&mut self, value: &Json) {
        self.item().extend_from_slice(value.as_str().as_bytes());
    }

    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.item(), fill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json_with_its_raw_parts_untouched() {
        let mut out = Vec::new();
        object(&mut out, |o| {
            o.text("a", "x\"\n\u{e9}");
            o.json("b", &Json::new("{ \"n\": 1.0 }").unwrap());
            o.array("c", |a| {
                a.text("1");
                a.object(|o| o.null("z"));
            });
            o.object("d", |_| {});
            o.count_if("e", None);
            o.flag("f", false);
        });
        let want =
            "{\"a\":\"x\\\"\\n\u{e9}\",\"b\":{ \"n\": 1.0 },\"c\":[\"1\",{\"z\":null}],\"d\":{},\"f\":false}";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
