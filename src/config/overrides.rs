//! Which settings do variables set over the file?
//!
//! `POINTSMAN__LOG__LEVEL=debug` is `log.level: debug`, whatever the files say: for containers and for an
//! `EnvironmentFile` of systemd, where one file serves several hosts. The name is the path of the key in
//! capitals, with two underscores between its words; a number is an entry of a list, counted from 0
//! (`POINTSMAN__LISTEN__0__ADDRESS`). An empty variable sets nothing.
//!
//! Names that the operator chose (clients, providers, routes) have letters that variables have not, and
//! secrets are named in the file and not written down: both are refused with a sentence.
//!
//! A variable becomes a source of one line, so that the walk checks it as it checks the file.

/// What the name of such a variable begins with.
pub const PREFIX: &str = "POINTSMAN__";

/// Most entries of a list that are counted.
const ENTRIES_MAX: usize = 64;

/// Returns the setting of a variable as YAML.
///
/// # Errors
/// Why there can be none, as a sentence.
pub fn text(variable: &str, value: &str) -> Result<String, String> {
    let words: Vec<String> =
        variable.strip_prefix(PREFIX).unwrap_or(variable).split("__").map(str::to_ascii_lowercase).collect();
    let is_word = |word: &String| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !words.iter().all(is_word) {
        return Err("is the name of no key: POINTSMAN__LOG__LEVEL is log.level".to_owned());
    }
    match words.first().map(String::as_str) {
        Some(part @ ("clients" | "providers" | "routes")) => {
            return Err(format!("{part} stand in the file alone; variables set the keys beside them"));
        }
        Some(word) if word.parse::<usize>().is_ok() => {
            return Err("begins with a number: the file is no list".to_owned());
        }
        Some(_) | None => {}
    }
    if words.last().is_some_and(|word| word == "token") {
        return Err("is a secret, which the file names and does not hold: token: {env: NAME}".to_owned());
    }
    let mut text = scalar(value);
    for (at, word) in words.iter().enumerate().rev() {
        text = match word.parse::<usize>() {
            Ok(number) if number < ENTRIES_MAX => format!("[{}{text}]", "~, ".repeat(number)),
            Ok(_) => return Err(format!("counts further than {ENTRIES_MAX} entries")),
            Err(_) if at == 0 => format!("{word}: {text}"),
            Err(_) => format!("{{{word}: {text}}}"),
        };
    }
    Ok(text)
}

/// Writes a value so that YAML reads what the file would have said: a number, a yes or no, or a text.
fn scalar(value: &str) -> String {
    let is_number = value.parse::<f64>().is_ok_and(f64::is_finite)
        && value.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    match value {
        "true" | "false" | "null" => value.to_owned(),
        _ if is_number => value.to_owned(),
        _ => serde_json::Value::from(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_path_of_a_key() {
        for (variable, value, expected) in [
            ("POINTSMAN__GRACE", "5s", r#"grace: "5s""#),
            ("POINTSMAN__THREADS", "2", "threads: 2"),
            ("POINTSMAN__LOG__LEVEL", "debug", r#"log: {level: "debug"}"#),
            ("POINTSMAN__DEFAULT_ROUTE", "a: {b}\n", r#"default_route: "a: {b}\n""#),
            ("POINTSMAN__BREAKER__ENABLED", "false", "breaker: {enabled: false}"),
            ("POINTSMAN__LISTEN__1__ADDRESS", "[::1]:80", r#"listen: [~, {address: "[::1]:80"}]"#),
        ] {
            assert_eq!(text(variable, value).as_deref(), Ok(expected), "{variable}");
        }
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (variable, why) in [
            ("POINTSMAN__", "is the name of no key"),
            ("POINTSMAN__LOG____LEVEL", "is the name of no key"),
            ("POINTSMAN__LOG.LEVEL", "is the name of no key"),
            ("POINTSMAN__PROVIDERS__OPENAI__BASE_URL", "providers stand in the file alone"),
            ("POINTSMAN__ADMIN__TOKEN", "is a secret"),
            ("POINTSMAN__0", "begins with a number"),
            ("POINTSMAN__LISTEN__64__ADDRESS", "counts further than 64"),
        ] {
            let said = text(variable, "x").unwrap_err();
            assert!(said.starts_with(why), "{variable}: {said}");
        }
    }
}
