//! How numbers are written for people.

use std::time::Duration;

/// A number with its digits in threes.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            told.push(' ');
        }
        told.push(digit);
    }
    told
}

/// A number that was measured: whole from 10 on, with its digits in threes, and with one digit
/// behind the point below.
pub(crate) fn measured(number: f64) -> String {
    if number < 9.95 { format!("{number:.1}") } else { self::number(number.round() as u64) }
}

/// A short time in the unit that fits it, with two or three digits.
pub(crate) fn short_time(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    let (number, unit) = match nanoseconds {
        0.0..999_500.0 => (nanoseconds / 1e3, "us"),
        999_500.0..999_500_000.0 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    format!("{} {unit}", measured(number))
}

/// Bytes in the largest unit of which there is one: whole if they are a multiple of it, else with
/// one digit behind the point.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        None => format!("{bytes} bytes"),
        Some((shift, unit)) if bytes.is_multiple_of(1 << shift) => {
            format!("{} {unit}", bytes >> shift)
        }
        Some((shift, unit)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
    }
}

/// A count of things.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("{count} {noun}") } else { format!("{count} {noun}s") }
}

/// A number of bytes, with a unit or without: 268435456, 256MiB, 1GiB.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 256MiB or 1GiB");
    let unit_at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "" => 1,
        "KiB" => 1_u64 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Text in lines of at most `width` characters, if no word is longer.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_threes() {
        let told = [0, 12, 123, 1234, 123_456, 1_234_567].map(number);
        assert_eq!(told, ["0", "12", "123", "1 234", "123 456", "1 234 567"]);
    }

    #[test]
    fn what_was_measured_is_not_told_more_exactly_than_it_is() {
        let told = [0.0, 1.26, 9.96, 10.4, 1234.5].map(measured);
        assert_eq!(told, ["0.0", "1.3", "10", "10", "1 235"]);
    }

    #[test]
    fn short_times_have_the_unit_that_fits() {
        let told = [0, 1250, 82_400, 999_499, 999_500, 4_000_000, 999_600_000, 12_000_000_000];
        let told = told.map(|nanoseconds| short_time(Duration::from_nanos(nanoseconds)));
        assert_eq!(
            told,
            ["0.0 us", "1.2 us", "82 us", "999 us", "1.0 ms", "4.0 ms", "1.0 s", "12 s"]
        );
    }

    #[test]
    fn sizes_are_told_as_they_are_read() {
        for (bytes_, told) in [
            (0, "0 bytes"),
            (4096, "4 KiB"),
            (256 << 20, "256 MiB"),
            (1 << 40, "1 TiB"),
            ((1 << 30) + (1 << 29), "1.5 GiB"),
        ] {
            assert_eq!(bytes(bytes_), told);
        }
        for (text, read) in
            [("4096", 4096), ("4KiB", 4096), ("256MiB", 256 << 20), ("2TiB", 2 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(read));
        }
        for wrong in ["", "MiB", "-1", "1.5GiB", "1 GiB", "1MB", "99999999TiB", "1e9"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_are_as_wide_as_they_may_be() {
        assert_eq!(wrap("one two  three\nfour", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("a longword b", 3), ["a", "longword", "b"]);
        assert_eq!(wrap("", 3), Vec::<String>::new());
    }
}
