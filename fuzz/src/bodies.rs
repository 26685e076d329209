//! Request bodies, and JSON below them.

use super::{choose, shown};
use bytes::Bytes;
use pointsman::base::api::Api;
use pointsman::parse::{self, MODEL_MAX, ParseFault, Parsed};
use pointsman::rewrite::body as rewritten;
use pointsman::wire::json::{Broken, Scan};
use serde_json::Value;

/// The calls that clients make; letters `a` to `g`.
const CALLS: [Api; 7] = [
    Api::ChatCompletions,
    Api::Messages,
    Api::Responses,
    Api::GenerateContent,
    Api::Completions,
    Api::Embeddings,
    Api::CountTokens,
];

/// Any text: it is JSON for the scanner exactly where it is for serde_json, and both find the same
/// members, items, texts and numbers in it. `TooDeep` is said of what is deep only.
pub fn json(input: &[u8]) {
    let mut scan = Scan::new(input);
    let skipped = scan.skip();
    let ours = skipped.clone().and_then(|_| scan.end());
    assert!(scan.at() <= input.len());
    if std::str::from_utf8(input).is_err() {
        let _ = walked(input, &mut Scan::new(input));
        return;
    }
    match &ours {
        Err(Broken::TooDeep(_)) => {
            let brackets = input.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
            assert!(brackets > 128, "not deep: {}", shown(input));
            return;
        }
        Err(Broken::Syntax(at)) => assert!(*at <= input.len()),
        Ok(()) => {}
    }
    assert_eq!(ours.is_ok(), is_json(input), "{}", shown(input));
    let (Ok(range), Ok(())) = (skipped, ours) else { return };
    assert_eq!(&input[range], trimmed(input), "the value is all but white space");
    let mut scan = Scan::new(input);
    let walk = walked(input, &mut scan).expect("what is skipped is walked as well");
    scan.end().expect("and to the same end");
    // serde_json builds no numbers beyond f64, no halves of surrogate pairs, no 128th level.
    if let (Some(ours), Ok(theirs)) = (walk, serde_json::from_slice::<Value>(input)) {
        assert_eq!(ours, theirs);
    }
}

/// Any request body, after a letter for the call: refused exactly where it is no JSON object or for
/// one of the stated reasons; else what was read is what serde_json reads, places lie in the body,
/// and what is rewritten from them is sound again and names the new model.
pub fn request(input: &[u8]) {
    let mut input = input;
    let api = choose(&mut input, &CALLS);
    let body = Bytes::copy_from_slice(input);
    let parsed = match parse::body(api, &body) {
        Ok(parsed) => parsed,
        Err(fault) => return refused(&fault, &body),
    };
    let text = std::str::from_utf8(&body).expect("it was checked");
    assert!(is_json(&body), "{text}");
    assert_eq!(body[parsed.close], b'}', "{text}");
    assert!(parsed.n >= 1 && parsed.text_bytes <= body.len() as u64, "{text}");
    let model = parsed.model.as_deref();
    assert!(model.is_none_or(|m| !m.is_empty() && m.len() <= MODEL_MAX && !m.chars().any(char::is_control)));
    if let Ok(Value::Object(theirs)) = serde_json::from_slice(&body) {
        assert_eq!(
            theirs.get("model").and_then(Value::as_str).unwrap_or_default(),
            model.unwrap_or_default()
        );
        assert_eq!(
            theirs.get("stream").and_then(Value::as_bool).unwrap_or_default(),
            parsed.stream,
            "{text}"
        );
        assert_eq!(theirs.is_empty(), parsed.is_empty, "{text}");
        for name in theirs.keys() {
            assert!(parsed.has(&body, name), "{name:?} in {text}");
        }
        assert!(!parsed.has(&body, "no such member") || theirs.contains_key("no such member"));
    }
    reads_back(&body, &parsed);
}

fn refused(fault: &ParseFault, body: &[u8]) {
    match fault {
        ParseFault::NotJson(at) => {
            assert!(*at <= body.len());
            assert!(!is_json(body), "{}", shown(body));
        }
        ParseFault::NotAnObject => assert!(is_json(body) && trimmed(body).first() != Some(&b'{')),
        ParseFault::TooDeep
        | ParseFault::TooManyMembers
        | ParseFault::ModelNotString
        | ParseFault::ModelTooLong
        | ParseFault::ModelNotPrintable
        | ParseFault::StreamNotBool
        | ParseFault::Duplicate(_)
        | ParseFault::OtherLetters(_) => {}
    }
}

/// Another model and defaults go in, and come out when it is read again.
fn reads_back(body: &Bytes, parsed: &Parsed) {
    let defaults = [("max_tokens", "7"), ("temperature", "0.5"), ("zz_new", "[{}]")];
    let defaults = defaults.map(|(name, json)| (name.to_owned(), json.to_owned()));
    let made = rewritten(body, parsed, "other \"model\"", &defaults);
    let bytes = made.pieces.concat();
    assert_eq!(bytes.len(), made.len);
    let again = parse::body(parsed.api, &bytes);
    if again == Err(ParseFault::TooManyMembers) {
        return;
    }
    let again = again.unwrap_or_else(|fault| panic!("{fault}: {} of {}", shown(&bytes), shown(body)));
    if parsed.api != Api::GenerateContent {
        assert_eq!(again.model.as_deref(), Some("other \"model\""));
    }
    assert_eq!((again.stream, again.replay), (parsed.stream, parsed.replay));
    for key in &parsed.keys {
        let name: String = serde_json::from_slice(&body[key.range()]).unwrap_or_default();
        assert!(name.is_empty() || again.has(&bytes, &name), "{name:?} was lost");
    }
}

/// Walks a document member by member and builds what is in it; nothing for what cannot be built.
fn walked(text: &[u8], scan: &mut Scan<'_>) -> Result<Option<Value>, Broken> {
    match scan.peek() {
        Some(b'{') => {
            let mut map = Some(serde_json::Map::new());
            scan.members::<Broken>(|scan, key| {
                let value = walked(text, scan)?;
                map = match (map.take(), key.whole(), value) {
                    (Some(mut map), Some(key), Some(value)) => {
                        map.insert(key.into_owned(), value);
                        Some(map)
                    }
                    (_, _, _) => None,
                };
                Ok(())
            })?;
            Ok(map.map(Value::Object))
        }
        Some(b'[') => {
            let mut list = Some(Vec::new());
            let mut count = 0;
            let told = scan.items::<Broken>(|scan| {
                count += 1;
                list = match (list.take(), walked(text, scan)?) {
                    (Some(mut list), Some(value)) => {
                        list.push(value);
                        Some(list)
                    }
                    (_, _) => None,
                };
                Ok(())
            })?;
            assert_eq!(told, count);
            Ok(list.map(Value::Array))
        }
        Some(b'"') => {
            Ok(scan.text()?.and_then(|text| text.whole().map(|text| Value::from(text.into_owned()))))
        }
        Some(b't' | b'f') => Ok(scan.flag()?.map(Value::from)),
        _ => number(text, scan),
    }
}

/// Reads a number or null by its place, a whole number also by `count`.
fn number(text: &[u8], scan: &mut Scan<'_>) -> Result<Option<Value>, Broken> {
    let counted = scan.clone().count()?;
    let range = scan.skip()?;
    assert_eq!(range.end, scan.at());
    let value = serde_json::from_slice::<Value>(&text[range]).ok();
    if let Some(whole) = value.as_ref().and_then(Value::as_u64) {
        assert_eq!(counted, Some(whole));
    }
    Ok(value)
}

/// Tells whether serde_json takes it for JSON.
pub fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(text).is_ok()
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
    let from = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let to = text.iter().rposition(|byte| !is_space(byte)).map_or(from, |at| at + 1);
    &text[from..to]
}
