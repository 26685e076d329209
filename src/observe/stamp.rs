//! Dates as people and machines read them: RFC 3339 in UTC with milliseconds.
//!
//! Every log line carries one, so it is written by hand into the line's own buffer: the day count
//! to civil date conversion is Howard Hinnant's `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>), exact for the proleptic Gregorian
//! calendar. Years beyond 0 to 9999, which RFC 3339 cannot say, are held at its ends.

use crate::base::time::WallTime;

const DAY_MS: i64 = 86_400_000;
/// 0000-01-01T00:00:00.000Z in milliseconds since the epoch.
const FIRST_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z in milliseconds since the epoch.
const LAST_MS: i64 = 253_402_300_799_999;

/// Returns `2026-11-21T02:14:22.123Z`.
#[must_use]
pub fn rfc3339(at: WallTime) -> String {
    let mut text = String::with_capacity(24);
    push_rfc3339(&mut text, at);
    text
}

/// Appends `2026-11-21T02:14:22.123Z`.
pub(super) fn push_rfc3339(text: &mut String, at: WallTime) {
    let at = at.0.clamp(FIRST_MS, LAST_MS);
    let (year, month, day) = civil(at.div_euclid(DAY_MS));
    let ms = at.rem_euclid(DAY_MS);
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    two_digits(text, year / 100);
    two_digits(text, year);
    for (before, value) in [('-', month), ('-', day), ('T', hour), (':', minute), (':', second)] {
        text.push(before);
        two_digits(text, value);
    }
    text.push('.');
    two_digits(text, milli / 10);
    text.push(digit(milli));
    text.push('Z');
}

/// Appends the last two digits of a number.
fn two_digits(text: &mut String, value: i64) {
    text.push(digit(value / 10));
    text.push(digit(value));
}

/// The last digit of a number.
fn digit(value: i64) -> char {
    char::from(b'0' + u8::try_from(value % 10).unwrap_or(0))
}

/// Year, month and day of a day counted from 1970-01-01. Counts in eras of 400 years that begin
/// in March, so that the leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates_are_written_as_rfc_3339_wants() {
        for (at, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_227_262_123, "2026-11-21T02:14:22.123Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(WallTime(at)), want, "{at}");
        }
    }

    proptest! {
        #[test]
        fn every_date_agrees_with_a_second_opinion(at in FIRST_MS..LAST_MS) {
            let other = chrono::DateTime::from_timestamp_millis(at).unwrap();
            prop_assert_eq!(rfc3339(WallTime(at)), other.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
        }
    }
}
