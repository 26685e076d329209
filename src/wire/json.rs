//! Walks JSON text without building anything.
//!
//! Every room that reads a body asks for a handful of members of a document that may hold
//! megabytes of prompt. [`Scan`] goes over the bytes once, checks the syntax of all of them, and
//! hands out the members asked for as slices of the input; nothing is copied or allocated.
//!
//! Rules: syntax as RFC 8259 has it (strict numbers, no control characters in strings, no
//! trailing commas); nesting to 128 levels, as serde_json has it, held by a counter and one bit a
//! level instead of the call stack, so that 10^5 brackets cost one comparison. Two things are not
//! checked: UTF-8 (callers who care check it first) and pairs of surrogates in escapes.
//!
//! Why not serde: derived structs refuse a whole event when one member has an unexpected type,
//! and providers do send `content` as an object or `usage` as a string. Here a member of another
//! type than expected reads as absent.

use std::borrow::Cow;
use std::ops::Range;

/// Deepest nesting that is read: serde_json's own limit, beyond any real request.
pub const DEPTH_MAX: u32 = 128;

/// Where and how a text stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Not JSON from this byte on.
    Syntax(usize),
    /// Nested deeper than [`DEPTH_MAX`] at this byte.
    TooDeep(usize),
}

/// A string token, still escaped.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The token with its quotes.
    quoted: &'a [u8],
    escaped: bool,
    at: usize,
}

impl<'a> Text<'a> {
    /// Returns the bytes of the text, unescaped.
    #[must_use]
    pub fn bytes(&self) -> Cow<'a, [u8]> {
        let inner = self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default();
        if !self.escaped {
            return Cow::Borrowed(inner);
        }
        match serde_json::from_slice::<String>(self.quoted) {
            Ok(text) => Cow::Owned(text.into_bytes()),
            // A lone surrogate or bad UTF-8: no name of ours matches it, so the raw form will do.
            Err(_) => Cow::Borrowed(inner),
        }
    }

    /// Returns the text, unescaped; bytes that are not UTF-8 and lone halves of a surrogate pair are
    /// replaced.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        if self.escaped
            && let Ok(text) =
                serde_json::from_slice(self.quoted).or_else(|_| serde_json::from_slice(&self.mended()))
        {
            return Cow::Owned(text);
        }
        String::from_utf8_lossy(self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default())
    }

    /// Returns the token with an escape that stands for nothing in the place of each lone half.
    fn mended(&self) -> Vec<u8> {
        let mut mended = Vec::with_capacity(self.quoted.len());
        let mut rest = self.quoted;
        while let Some(first) = rest.first() {
            let length = match (first, unit(rest), rest.get(6..).and_then(unit)) {
                (_, Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
                (_, Some(0xd800..0xe000), _) => {
                    mended.extend_from_slice(b"\\ufffd");
                    rest = rest.get(6..).unwrap_or_default();
                    continue;
                }
                (b'\\', _, _) => 2,
                _ => 1,
            };
            let (whole, others) = rest.split_at_checked(length).unwrap_or((rest, b""));
            mended.extend_from_slice(whole);
            rest = others;
        }
        mended
    }

    /// Returns the text, unescaped, where it is whole: nothing for half of a surrogate pair (some
    /// providers cut an emoji in two) or bytes that are not UTF-8.
    #[must_use]
    pub fn whole(&self) -> Option<Cow<'a, str>> {
        if self.escaped {
            return serde_json::from_slice::<String>(self.quoted).ok().map(Cow::Owned);
        }
        let inner = self.quoted.get(1..self.quoted.len().saturating_sub(1)).unwrap_or_default();
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }

    /// Returns where the token lies in the text scanned, quotes included.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.quoted.len()
    }

    /// Tells whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quoted.len() <= 2
    }
}

/// Reads the escape of a UTF-16 unit that the bytes begin with.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A cursor over JSON text.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Scan<'a> {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Scan { bytes, at: 0, depth: 0 }
    }

    /// Returns the offset of the cursor.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Skips white space and returns the byte under the cursor.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    /// Checks that nothing but white space is left.
    ///
    /// # Errors
    /// With the place of what is left.
    pub fn end(&mut self) -> Result<(), Broken> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Broken::Syntax(self.at)),
        }
    }

    /// Calls `on` with the key of each member of the object under the cursor; `on` must consume
    /// the value. Any other value is skipped. Returns whether it was an object.
    ///
    /// # Errors
    /// Where the text is broken, or `on` says so.
    pub fn members<E: From<Broken>>(
        &mut self,
        mut on: impl FnMut(&mut Self, Text<'a>) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.peek() != Some(b'{') {
            self.skip()?;
            return Ok(false);
        }
        self.enter()?;
        if self.peek() == Some(b'}') {
            self.leave();
            return Ok(true);
        }
        loop {
            let key = self.key()?;
            on(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.leave();
                    return Ok(true);
                }
                _ => return Err(self.broken().into()),
            }
        }
    }

    /// Calls `on` before each item of the array under the cursor; `on` must consume the item. Any
    /// other value is skipped. Returns how many items there were.
    ///
    /// # Errors
    /// Where the text is broken, or `on` says so.
    pub fn items<E: From<Broken>>(
        &mut self,
        mut on: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<usize, E> {
        if self.peek() != Some(b'[') {
            self.skip()?;
            return Ok(0);
        }
        self.enter()?;
        if self.peek() == Some(b']') {
            self.leave();
            return Ok(0);
        }
        let mut count = 0;
        loop {
            on(self)?;
            count += 1;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.leave();
                    return Ok(count);
                }
                _ => return Err(self.broken().into()),
            }
        }
    }

    /// Skips one value of any kind and returns where it lies.
    ///
    /// # Errors
    /// Where the text is broken or too deep.
    pub fn skip(&mut self) -> Result<Range<usize>, Broken> {
        self.peek();
        let start = self.at;
        // One bit an open container, the innermost lowest: 1 is an object.
        let mut kinds: u128 = 0;
        let mut open: u32 = 0;
        loop {
            match self.peek() {
                Some(kind @ (b'{' | b'[')) => {
                    if self.depth + open >= DEPTH_MAX {
                        return Err(Broken::TooDeep(self.at));
                    }
                    self.at += 1;
                    let is_object = kind == b'{';
                    let end = if is_object { b'}' } else { b']' };
                    if self.peek() == Some(end) {
                        self.at += 1;
                    } else {
                        open += 1;
                        kinds = (kinds << 1) | u128::from(is_object);
                        if is_object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return Err(self.broken()),
            }
            // A value is done: close what ends here.
            loop {
                if open == 0 {
                    return Ok(start..self.at);
                }
                let is_object = kinds & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if is_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => {}
                    Some(b']') if !is_object => {}
                    _ => return Err(self.broken()),
                }
                self.at += 1;
                open -= 1;
                kinds >>= 1;
            }
        }
    }

    /// Reads a string; any other value is skipped and reads as nothing.
    ///
    /// # Errors
    /// Where the text is broken.
    pub fn text(&mut self) -> Result<Option<Text<'a>>, Broken> {
        if self.peek() == Some(b'"') {
            return self.string().map(Some);
        }
        self.skip()?;
        Ok(None)
    }

    /// Reads a whole number of zero or more (a fraction is cut off); any other value is skipped
    /// and reads as nothing.
    ///
    /// # Errors
    /// Where the text is broken.
    pub fn count(&mut self) -> Result<Option<u64>, Broken> {
        let range = self.skip()?;
        let token =
            self.bytes.get(range).and_then(|token| std::str::from_utf8(token).ok()).unwrap_or_default();
        // 2^64: from there on it is no count that anybody means.
        let is_held = |number: &f64| (0.0..18_446_744_073_709_551_616.0).contains(number);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is held, and its fraction is to be cut off"
        )]
        let cut_off = |number: f64| is_held(&number).then_some(number as u64);
        Ok(token.parse().ok().or_else(|| token.parse().ok().and_then(cut_off)))
    }

    /// Reads a boolean; any other value is skipped and reads as nothing.
    ///
    /// # Errors
    /// Where the text is broken.
    pub fn flag(&mut self) -> Result<Option<bool>, Broken> {
        let first = self.peek();
        self.skip()?;
        Ok(match first {
            Some(b't') => Some(true),
            Some(b'f') => Some(false),
            _ => None,
        })
    }

    /// Skips a value and tells whether it says anything: not null, false, `""`, `[]` or `{}`.
    ///
    /// # Errors
    /// Where the text is broken.
    pub fn says_something(&mut self) -> Result<bool, Broken> {
        let first = self.peek();
        let range = self.skip()?;
        let token = self.bytes.get(range).unwrap_or_default();
        Ok(match first {
            Some(b'n' | b'f') => false,
            Some(b'"') => token.len() > 2,
            Some(b'{' | b'[') => {
                token.len() > 2
                    && token.get(1..token.len() - 1).is_some_and(|i| !i.iter().all(u8::is_ascii_whitespace))
            }
            _ => true,
        })
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn broken(&self) -> Broken {
        Broken::Syntax(self.at)
    }

    fn enter(&mut self) -> Result<(), Broken> {
        if self.depth >= DEPTH_MAX {
            return Err(Broken::TooDeep(self.at));
        }
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.at += 1;
    }

    /// Reads `"key" :` and leaves the cursor before the value.
    fn key(&mut self) -> Result<Text<'a>, Broken> {
        if self.peek() != Some(b'"') {
            return Err(self.broken());
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(key)
    }

    /// Reads the string whose opening quote is under the cursor.
    fn string(&mut self) -> Result<Text<'a>, Broken> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain_run(self.bytes.get(self.at..).unwrap_or_default());
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    let quoted = self.bytes.get(start..self.at).unwrap_or_default();
                    return Ok(Text { quoted, escaped, at: start });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.broken()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Broken> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.broken());
                }
                self.at += 5;
            }
            _ => return Err(self.broken()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Broken> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Broken> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { Err(self.broken()) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Broken> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.broken())
    }
}

/// The bytes that end a run: a quote, an escape, a control character.
static ENDS_RUN: [bool; 256] = {
    let mut ends = [false; 256];
    let mut b = 0;
    while b < 0x20 {
        ends[b] = true;
        b += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// Length up to which a run is walked word by word: keys and short values are most of a document,
/// and shorter than what it takes to set a vectorised search going.
const SHORT_RUN: usize = 24;

/// Returns how many bytes from the start of `rest` may stand in a string as they are. A long run
/// takes two passes: the search for what ends it is vectorised by hand in memchr, the check for
/// control characters by the compiler, because its loop has no branch.
fn plain_run(rest: &[u8]) -> usize {
    let (words, tail) = rest.get(..SHORT_RUN).unwrap_or(rest).as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let ends = ends_in(u64::from_le_bytes(*word));
        if ends != 0 {
            return at * 8 + (ends.trailing_zeros() / 8) as usize;
        }
    }
    if let Some(end) = tail.iter().position(|b| ENDS_RUN[usize::from(*b)]) {
        return words.len() * 8 + end;
    }
    let walked = words.len() * 8 + tail.len();
    walked + long_run(rest.get(walked..).unwrap_or_default())
}

/// Marks the bytes of a word that end a run, each by its highest bit; those above the lowest marked one
/// may be marked in vain, for a borrow goes upwards.
fn ends_in(word: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let is_zero = |word: u64| word.wrapping_sub(LOW) & !word;
    let is_control = word.wrapping_sub(LOW * 0x20) & !word;
    (is_zero(word ^ (LOW * 0x22)) | is_zero(word ^ (LOW * 0x5c)) | is_control) & HIGH
}

fn long_run(rest: &[u8]) -> usize {
    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let run = rest.get(..end).unwrap_or_default();
    // Of a fixed size: whether a loop of any length is made one of vectors is for a profile to say.
    let (chunks, tail) = run.as_chunks::<32>();
    let is_control = |chunk: &[u8; 32]| chunk.iter().fold(0, |has, b| has | u8::from(*b < 0x20)) != 0;
    let has_control = chunks.iter().any(is_control) || tail.iter().any(|b| *b < 0x20);
    if has_control { run.iter().position(|b| *b < 0x20).unwrap_or(end) } else { end }
}

#[cfg(test)]
mod tests;
