//! Is the house as its map says? (The table and the invariants of `src/lib.rs`.)
//!
//! Reads the source text: words are enough to see who uses whom, and a compiler would not tell us
//! of a pure room that reads a clock. Comments and literals are left out, `use` groups and inline
//! paths both count, and `super` is followed to where it leads.
//!
//! Tests inside the source keep to the same lines, with these exceptions: they may read files and
//! variables; they may use another room's test fixtures (modules that exist under `cfg(test)`
//! only), for these are no part of the program; and what stands in [`AGREED`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The first floor that may do I/O; below it rooms are pure.
const FIRST_SHELL_FLOOR: u32 = 5;

/// The room whose words all others speak, those of its own floor too.
const WORDS: &str = "base";

/// Tests that may use a room beside their own: what it makes is what theirs takes, and making it
/// by hand would test something else.
const AGREED: [(&str, &str); 1] = [("src/rewrite/body.rs", "parse")];

/// One source file.
struct Source {
    /// As in `src/health/mod.rs`.
    name: String,
    /// Its module path: `["health", "breaker"]`.
    module: Vec<String>,
    text: String,
    tokens: Vec<Token>,
    /// It exists under `cfg(test)` only.
    is_test: bool,
}

/// A word or a sign of the program, with its line.
struct Token {
    word: String,
    line: usize,
}

/// A path as the program uses it, from its root: `["std", "fs", "read"]`, `["crate", "base", "ids"]`.
struct Used {
    path: Vec<String>,
    line: usize,
    in_test: bool,
}

struct House {
    sources: Vec<Source>,
    /// Floor of each room.
    floors: BTreeMap<String, u32>,
    /// Modules that exist under `cfg(test)` only.
    fixtures: BTreeSet<Vec<String>>,
}

impl House {
    fn open() -> House {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources: Vec<Source> = files(&root).iter().map(|path| Source::read(&root, path)).collect();
        let fixtures: BTreeSet<Vec<String>> = sources.iter().flat_map(test_modules).collect();
        for source in &mut sources {
            source.is_test = (0..=source.module.len()).any(|end| fixtures.contains(&source.module[..end]));
        }
        let map = sources.iter().find(|source| source.name == "src/lib.rs").expect("src/lib.rs");
        let floors = floors(&map.text);
        House { sources, floors, fixtures }
    }

    fn floor(&self, room: &str) -> u32 {
        *self.floors.get(room).unwrap_or_else(|| panic!("{room} has no row in the table of src/lib.rs"))
    }

    fn is_pure(&self, source: &Source) -> bool {
        source.room().is_some_and(|room| self.floor(room) < FIRST_SHELL_FLOOR)
    }

    /// Collects what a rule has against any file.
    fn complaints(&self, rule: impl Fn(&Source, &Used) -> Option<String>) -> Vec<String> {
        let mut all = Vec::new();
        for source in &self.sources {
            for used in source.uses() {
                if let Some(why) = rule(source, &used) {
                    all.push(format!("{}:{}: {} {why}", source.name, used.line, used.path.join("::")));
                }
            }
        }
        all.sort();
        all.dedup();
        all
    }
}

/// Reads the table: `| floor | [`room`], [`room`] | question |`.
fn floors(map: &str) -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    for row in map.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = row.split(" | ");
        let (Some(floor), Some(rooms)) = (cells.next(), cells.next()) else { continue };
        let Ok(floor) = floor.trim().parse() else { continue };
        for room in rooms.split('`').skip(1).step_by(2) {
            floors.insert(room.to_owned(), floor);
        }
    }
    floors
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

/// Returns the modules of files that are declared under `#[cfg(test)]`, and `mod tests` inline.
fn test_modules(source: &Source) -> Vec<Vec<String>> {
    let words: Vec<&str> = source.tokens.iter().map(|token| token.word.as_str()).collect();
    let mut found = Vec::new();
    for at in 0..words.len() {
        if words[at..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]"]) {
            let rest = &words[at + 7..];
            let rest = if rest.first() == Some(&"pub") { &rest[1..] } else { rest };
            let rest = if rest.starts_with(&["(", "crate", ")"]) { &rest[3..] } else { rest };
            if let ["mod", name, ..] = rest {
                found.push([source.module.clone(), vec![(*name).to_owned()]].concat());
            }
        }
    }
    found
}

impl Source {
    /// Returns the room that the file belongs to; nothing for `lib.rs` and what is the program's own.
    fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap();
        let inside = path.strip_prefix(root).unwrap().with_extension("");
        let mut module: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| ["mod", "lib", "main", "allocator"].contains(&last.as_str())) {
            module.pop();
        }
        let name = format!("src/{}", path.strip_prefix(root).unwrap().display());
        let tokens = tokens(&text);
        Source { name, module, text, tokens, is_test: false }
    }

    /// Returns every path that the file uses. Of paths through `super` only those that leave the
    /// room are told, as paths from `crate`.
    fn uses(&self) -> Vec<Used> {
        let mut all = Vec::new();
        // Inline modules, by the depth of braces at which each began.
        let (mut depth, mut inline, mut tests) = (0, Vec::<(usize, String)>::new(), Vec::new());
        let mut at = 0;
        while at < self.tokens.len() {
            match self.word(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(began, _)| *began < depth);
                    tests.retain(|began| *began < depth);
                }
                "#" if self.words(at, &["#", "[", "cfg", "(", "test", ")", "]"]) => tests.push(depth),
                ";" => tests.retain(|began| *began != depth),
                "mod" if self.word(at + 2) == "{" => inline.push((depth, self.word(at + 1).to_owned())),
                word if is_name(word) && self.is_start(at) => {
                    let mut paths = Vec::new();
                    let line = self.tokens[at].line;
                    let next = self.path(at, &mut Vec::new(), &mut paths);
                    let in_test = self.is_test || !tests.is_empty();
                    let here: Vec<String> =
                        self.module.iter().chain(inline.iter().map(|(_, name)| name)).cloned().collect();
                    all.extend(paths.into_iter().filter_map(|path| {
                        let path = from_root(path, &here)?;
                        Some(Used { path, line, in_test })
                    }));
                    at = next;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        all
    }

    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.word.as_str())
    }

    fn words(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(step, word)| self.word(at + step) == *word)
    }

    /// Tells whether a path of more than one name begins here.
    fn is_start(&self, at: usize) -> bool {
        let before = if at == 0 { "" } else { self.word(at - 1) };
        self.word(at + 1) == "::" && before != "::" && before != "."
    }

    /// Reads a path with its groups; returns where it ends.
    fn path(&self, mut at: usize, before: &mut Vec<String>, all: &mut Vec<Vec<String>>) -> usize {
        let depth = before.len();
        loop {
            match self.word(at) {
                "{" => {
                    at += 1;
                    while self.word(at) != "}" && at < self.tokens.len() {
                        at = self.path(at, before, all);
                        while !["}", ","].contains(&self.word(at)) && at < self.tokens.len() {
                            at += 1;
                        }
                        at += usize::from(self.word(at) == ",");
                    }
                    at += 1;
                    before.truncate(depth);
                    return at;
                }
                word if is_name(word) || word == "*" => before.push(word.to_owned()),
                _ => break,
            }
            at += 1;
            if self.word(at) != "::" || self.word(at + 1) == "<" {
                break;
            }
            at += 1;
        }
        all.push(before.clone());
        before.truncate(depth);
        at
    }
}

/// Returns a path from its root; nothing for one that stays in the file's own module.
fn from_root(mut path: Vec<String>, here: &[String]) -> Option<Vec<String>> {
    match path.first().map(String::as_str) {
        Some("self" | "Self") => None,
        Some("super") => {
            let steps = path.iter().take_while(|word| *word == "super").count();
            let above = &here[..here.len().checked_sub(steps)?];
            let rest = path.split_off(steps);
            Some([vec!["crate".to_owned()], above.to_vec(), rest].concat())
        }
        Some("pointsman") => {
            "crate".clone_into(&mut path[0]);
            Some(path)
        }
        _ => Some(path),
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Cuts a program into words and signs, without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let bytes: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let peek = |at: usize| bytes.get(at).copied().unwrap_or('\0');
    while at < bytes.len() {
        let from = at;
        match peek(at) {
            '/' if peek(at + 1) == '/' => at = until(&bytes, at, |c| c == '\n'),
            '/' if peek(at + 1) == '*' => at = block_comment(&bytes, at),
            '"' => at = string(&bytes, at),
            'r' | 'b' | 'c' if literal(&bytes, at).is_some() => at = literal(&bytes, at).unwrap_or(at + 1),
            // A letter in quotes is a literal, a letter after one quote a lifetime.
            '\'' if peek(at + 1) == '\\' => at = until(&bytes, at + 3, |c| c == '\'') + 1,
            '\'' if peek(at + 2) == '\'' => at += 3,
            '\'' => at = until(&bytes, at + 1, |c| !is_word(c)),
            ':' if peek(at + 1) == ':' => {
                tokens.push(Token { word: "::".to_owned(), line });
                at += 2;
            }
            c if is_word(c) => {
                at = until(&bytes, at, |c| !is_word(c));
                tokens.push(Token { word: bytes[from..at].iter().collect(), line });
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { word: c.to_string(), line });
                }
                at += 1;
            }
        }
        line += bytes[from..at.min(bytes.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn until(bytes: &[char], from: usize, is_end: impl Fn(char) -> bool) -> usize {
    (from..bytes.len()).find(|at| is_end(bytes[*at])).unwrap_or(bytes.len())
}

fn block_comment(bytes: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(bytes: &[char], mut at: usize) -> usize {
    at += 1;
    while at < bytes.len() && bytes[at] != '"' {
        at += if bytes[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Returns the end of a literal with a letter before it (`b"…"`, `r#"…"#`, `b'…'`), if it is one.
fn literal(bytes: &[char], at: usize) -> Option<usize> {
    let start = until(bytes, at, |c| !['b', 'r', 'c'].contains(&c));
    let is_raw = bytes[at..start].contains(&'r');
    if start - at > 2 {
        return None;
    }
    match bytes.get(start)? {
        '\'' if bytes[at..start] == ['b'] => {
            let end = if bytes.get(start + 1) == Some(&'\\') { start + 3 } else { start + 2 };
            Some(until(bytes, end, |c| c == '\'') + 1)
        }
        '"' if !is_raw => Some(string(bytes, start)),
        '"' | '#' if is_raw => {
            let quote = until(bytes, start, |c| c != '#');
            let hashes = quote - start;
            if bytes.get(quote) != Some(&'"') {
                return None;
            }
            let closes = |at: usize| {
                bytes[at] == '"'
                    && bytes[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
            };
            (quote + 1..bytes.len()).find(|at| closes(*at)).map(|at| at + 1 + hashes)
        }
        _ => None,
    }
}

fn assert_none(what: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{what}: {} times\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_room_stands_in_the_map_once() {
    let house = House::open();
    assert!(house.floors.len() > 15, "{:?}", house.floors);
    let rooms: BTreeSet<&str> = house.sources.iter().filter_map(|source| source.room()).collect();
    let mapped: BTreeSet<&str> = house.floors.keys().map(String::as_str).collect();
    assert_eq!(rooms, mapped);
}

#[test]
fn uses_point_down_and_rooms_on_one_floor_do_not_know_each_other() {
    let house = House::open();
    let complaints = house.complaints(|source, used| {
        let [start, room, ..] = used.path.as_slice() else { return None };
        if start != "crate" || !house.floors.contains_key(room) {
            return None;
        }
        let own = source.room()?;
        let is_fixture =
            used.in_test && (1..=used.path.len()).any(|end| house.fixtures.contains(&used.path[1..end]));
        let is_agreed = used.in_test && AGREED.contains(&(source.name.as_str(), room.as_str()));
        if room == own || room == WORDS || is_fixture || is_agreed || house.floor(room) < house.floor(own) {
            return None;
        }
        Some(format!("(floor {}) is used on floor {}", house.floor(room), house.floor(own)))
    });
    assert_none("uses that do not point down", &complaints);
}

#[test]
fn the_core_does_no_io() {
    let house = House::open();
    let complaints = house.complaints(|source, used| {
        if !house.is_pure(source) {
            return None;
        }
        let words: Vec<&str> = used.path.iter().map(String::as_str).collect();
        let is_forbidden = match words.as_slice() {
            ["std", "fs" | "env", ..] => !used.in_test,
            ["std", "process" | "thread" | "os", ..] | ["chrono", "Utc" | "Local" | "*", ..] => true,
            ["std", "net", name, ..] => ![
                "IpAddr",
                "Ipv4Addr",
                "Ipv6Addr",
                "SocketAddr",
                "SocketAddrV4",
                "SocketAddrV6",
                "AddrParseError",
            ]
            .contains(name),
            ["std", "time", name, ..] => ["Instant", "SystemTime", "*"].contains(name),
            ["std", "io", name, ..] => {
                ["stdin", "stdout", "stderr", "Stdin", "Stdout", "Stderr"].contains(name)
            }
            [first, ..] => {
                first.starts_with("pingora")
                    || first.starts_with("tokio")
                    || ["rand", "socket2", "h2", "rustls", "tracing", "log", "prometheus", "getrandom"]
                        .contains(first)
            }
            [] => false,
        };
        is_forbidden.then(|| "has no place in a pure room".to_owned())
    });
    assert_none("I/O in the core", &complaints);
}

#[test]
fn only_main_ends_the_process() {
    let house = House::open();
    let complaints = house.complaints(|source, used| {
        let last = used.path.last().map(String::as_str)?;
        let is_end =
            ["exit", "abort", "ExitCode"].contains(&last) && used.path.iter().any(|word| word == "process");
        (is_end && source.name != "src/main.rs").then(|| "outside main.rs".to_owned())
    });
    assert_none("ends of the process", &complaints);
}

#[test]
fn only_clock_reads_the_clocks() {
    let house = House::open();
    let complaints = house.complaints(|source, used| {
        let words: Vec<&str> = used.path.iter().map(String::as_str).collect();
        let reads = matches!(
            words.as_slice(),
            [.., "Instant" | "SystemTime" | "Utc" | "Local" | "Timestamp" | "Zoned", "now"]
        );
        let may = source.module.first().is_some_and(|room| ["clock", "standin"].contains(&room.as_str()));
        (reads && !may).then(|| "outside clock".to_owned())
    });
    assert_none("readers of a clock", &complaints);
}

#[test]
fn every_file_says_at_its_top_what_it_is_for() {
    let house = House::open();
    let silent: Vec<_> = house
        .sources
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.name.clone())
        .collect();
    assert_none("files without a header", &silent);
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let house = House::open();
    let empty = ["util", "utils", "helpers", "types", "common", "manager", "misc", "hacks"];
    let vague: Vec<_> = house
        .sources
        .iter()
        .filter(|source| source.module.iter().any(|part| empty.contains(&part.as_str())))
        .map(|source| source.name.clone())
        .collect();
    assert_none("names", &vague);
}

/// The reader itself: what counts as a use, and what does not.
#[test]
fn the_reader_finds_uses_in_groups_inline_and_through_super() {
    let text = r##"
        //! crate::comment
        use crate::{base::time::{Tick, WallTime}, route, self};
        use std::net::TcpStream;
        /* crate::block */ const A: &str = "crate::string"; const B: &[u8] = br#"crate::raw"#;
        fn f<'a>(x: &'a str) -> crate::health::Unit { let c = 'c'; let d = '"'; super::select::go(x); Self::y() }
        #[cfg(test)]
        mod tests { use super::super::exchange; use std::fs; }
        fn after() { std::env::var("X"); }
    "##;
    let source = Source {
        name: String::new(),
        module: vec!["parse".to_owned()],
        text: String::new(),
        tokens: tokens(text),
        is_test: false,
    };
    let found: Vec<(String, bool)> =
        source.uses().iter().map(|used| (used.path.join("::"), used.in_test)).collect();
    let expected = [
        ("crate::base::time::Tick", false),
        ("crate::base::time::WallTime", false),
        ("crate::route", false),
        ("crate::self", false),
        ("std::net::TcpStream", false),
        ("crate::health::Unit", false),
        ("crate::select::go", false),
        ("crate::exchange", true),
        ("std::fs", true),
        ("std::env::var", false),
    ];
    assert_eq!(found, expected.map(|(path, in_test)| (path.to_owned(), in_test)));
}
