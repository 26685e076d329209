//! Durations and sizes as people write them.
//!
//! The configuration, the command line and our own messages share one way to say a span of time
//! (`250ms`, `30s`, `5m`, `6h`) and a size (`64KiB`, `32MiB`). A bare number has no unit and is
//! refused: nginx's seconds against Envoy's milliseconds is the classic mistake.

use std::time::Duration;

/// Reads a span such as `250ms`, `30s`, `1.5s`, `5m`, `6h`, `1d`; a bare `0` is zero.
///
/// # Errors
/// Returns what is wrong, in words that fit behind a key's name.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale_micros = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3600e6,
        "d" => 86_400e6,
        "" => return Err("needs a unit: ms, s, m or h, as in 30s".to_owned()),
        _ => return Err("has an unknown unit; use ms, s, m or h, as in 30s".to_owned()),
    };
    let number = plain_number(number).ok_or("is not a duration; write it like 250ms, 30s or 5m")?;
    let micros = number * scale_micros;
    if micros > 1e17 {
        return Err("is too long".to_owned());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded just above, never negative"
    )]
    Ok(Duration::from_micros(micros.round() as u64))
}

/// Reads a size such as `64KiB`, `32MiB`, `1GiB`, `512B`.
///
/// # Errors
/// Returns what is wrong, in words that fit behind a key's name.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "" if number == "0" => 1.0,
        "" => return Err("needs a unit: B, KiB, MiB or GiB, as in 32MiB".to_owned()),
        _ => return Err("has an unknown unit; use B, KiB, MiB or GiB, as in 32MiB".to_owned()),
    };
    let number = plain_number(number).ok_or("is not a size; write it like 64KiB or 32MiB")?;
    let bytes = number * scale;
    if bytes > 1e15 {
        return Err("is too large".to_owned());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded just above, never negative"
    )]
    Ok(bytes.round() as u64)
}

/// Digits with at most one dot; no sign, exponent, NaN or infinity.
fn plain_number(text: &str) -> Option<f64> {
    let text = text.trim_end();
    let ok = !text.is_empty()
        && text.len() <= 20
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().filter(|b| *b == b'.').count() <= 1
        && text.bytes().any(|b| b.is_ascii_digit());
    ok.then(|| text.parse().ok()).flatten()
}

/// Writes a span the way the configuration reads it, in the largest unit that keeps it exact.
#[must_use]
pub fn format_duration(span: Duration) -> String {
    let micros = span.as_micros();
    for (unit, scale) in [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)] {
        if micros >= scale && micros.is_multiple_of(scale) {
            return format!("{}{unit}", micros / scale);
        }
    }
    if micros == 0 { "0s".to_owned() } else { format!("{micros}us") }
}

/// Writes a size the way the configuration reads it.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_take_fractions() {
        for (text, want) in [
            ("250ms", Some(250_000)),
            ("30s", Some(30_000_000)),
            ("1.5s", Some(1_500_000)),
            ("5m", Some(300_000_000)),
            ("6h", Some(21_600_000_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("30", None),
            ("-1s", None),
            ("nans", None),
            ("1e9s", None),
            ("s", None),
            ("99999999999999999999h", None),
            ("", None),
            ("3 fortnights", None),
        ] {
            let got = parse_duration(text).ok().map(|d| d.as_micros());
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        for (text, want) in [
            ("64KiB", Some(65_536)),
            ("32MiB", Some(33_554_432)),
            ("1GiB", Some(1 << 30)),
            ("512B", Some(512)),
            ("32MB", None),
            ("32", None),
            ("-1KiB", None),
        ] {
            assert_eq!(parse_size(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["250ms", "30s", "5m", "6h", "0s", "90s", "1500ms"] {
            let span = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(span)).unwrap(), span, "{text}");
        }
        assert_eq!(format_size(parse_size("32MiB").unwrap()), "32MiB");
    }
}
