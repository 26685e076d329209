//! What is JSON, what is not, and what of it is handed on as it is written?

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_run_ends_where_its_bytes_say(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), 0x1e_u8..0x24, 0x5b_u8..0x5e], 0..80),
    ) {
        let end = bytes.iter().position(|b| ENDS_RUN[usize::from(*b)]).unwrap_or(bytes.len());
        prop_assert_eq!(plain_run(&bytes), end);
    }
}

fn check(text: &[u8]) -> Result<(), Broken> {
    let mut scan = Scan::new(text);
    scan.skip()?;
    scan.end()
}

#[test]
fn json_is_told_from_what_only_looks_like_it() {
    for good in [
        "{}",
        "[]",
        "null",
        "true",
        "-0",
        "1.5e-3",
        "\"\"",
        " [1 , 2]\n",
        "\"\\u00e9\\n\"",
        "{\"a\":[{},[],{\"b\":null}],\"c\":\"d\"}",
    ] {
        assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
    }
    for bad in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":}",
        "{\"a\" 1}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "nul",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\n\"",
        "[1}",
        "{]",
        "1 2",
        "{\"a\":1,}",
        "\u{feff}{}",
        "NaN",
        "'a'",
    ] {
        assert!(check(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn nesting_beyond_128_levels_is_refused_without_recursion() {
    let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
    assert_eq!(check(nested(128).as_bytes()), Ok(()));
    assert_eq!(check(nested(129).as_bytes()), Err(Broken::TooDeep(128)));
    assert_eq!(check("[{\"a\":".repeat(100_000).as_bytes()), Err(Broken::TooDeep(64 * 6)));
}

#[test]
fn members_of_another_type_read_as_absent() {
    let mut scan = Scan::new(br#"{"a":{"x":1},"b":"7","c":7.9,"d":null,"e":[1]}"#);
    let mut seen = Vec::new();
    scan.members::<Broken>(|s, key| {
        let key = key.text().into_owned();
        seen.push(match key.as_str() {
            "a" => (key, s.text()?.is_some(), None),
            _ => (key, false, s.count()?),
        });
        Ok(())
    })
    .unwrap();
    let want = [("a", None), ("b", None), ("c", Some(7)), ("d", None), ("e", None)];
    let got: Vec<_> = seen.iter().map(|(k, text, n)| (k.as_str(), *text, *n)).collect();
    assert_eq!(got, want.map(|(k, n)| (k, false, n)));
}

#[test]
fn a_number_counts_however_it_is_written() {
    for (text, want) in [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("7e3", Some(7000)),
        ("1.5e3", Some(1500)),
        ("1500.9E0", Some(1500)),
        ("2.5e-1", Some(0)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("1e400", None),
        ("-1", None),
        ("true", None),
    ] {
        assert_eq!(Scan::new(text.as_bytes()).count(), Ok(want), "{text}");
    }
}

#[test]
fn empty_values_say_nothing() {
    for (text, want) in [
        ("null", false),
        ("\"\"", false),
        ("[]", false),
        ("{ }", false),
        ("false", false),
        ("\"x\"", true),
        ("[0]", true),
        ("{\"a\":1}", true),
        ("0", true),
        ("true", true),
    ] {
        assert_eq!(Scan::new(text.as_bytes()).says_something(), Ok(want), "{text}");
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((".*", inner), 0..5)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_writes_is_read_whole(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        prop_assert_eq!(check(text.unwrap().as_bytes()), Ok(()));
    }

    #[test]
    fn a_changed_byte_is_judged_as_serde_judges_it(value in json(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut text = serde_json::to_vec(&value).unwrap();
        let at = at.index(text.len());
        text[at] = to;
        if std::str::from_utf8(&text).is_err() {
            return Ok(());
        }
        let serde = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(check(&text).is_ok(), serde, "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check(&bytes);
    }
}
