//! Times as an administrator types them.

use capstan_types::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Reads `2026-11-22T14:03:05Z` and other times of RFC 3339, `2026-11-22 14:03[:05]` in the zone of this host, and seconds
/// since 1970. A time without a fraction means its last moment: what was decided in that second is in it.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = match is_number {
        true => text
            .parse::<i64>()
            .ok()
            .and_then(|secs| secs.checked_mul(1000)),
        false => absolute(text).or_else(|| local(text)),
    };
    let millis = millis.and_then(|millis| u64::try_from(millis).ok());
    let millis = millis.ok_or_else(|| {
        "no time: 2026-11-22T14:03:05Z, '2026-11-22 14:03:05' or seconds since 1970".to_owned()
    })?;
    let is_whole = !text.contains('.');
    Ok(Timestamp(if is_whole {
        millis.saturating_add(999)
    } else {
        millis
    }))
}

fn absolute(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

fn local(text: &str) -> Option<i64> {
    let time: DateTime = text.parse().ok()?;
    let zoned = time.to_zoned(TimeZone::system()).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_meant_up_to_its_end() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse(text).ok().map(|time| time.0), expected, "{text}");
        };
        check("2026-11-22T14:03:05Z", Some(1_795_356_185_999));
        check("2026-11-22 14:03:05Z", Some(1_795_356_185_999));
        check("2026-11-22T14:03:05.25Z", Some(1_795_356_185_250));
        check("2026-11-22T15:03:05+01:00", Some(1_795_356_185_999));
        check("1795356185", Some(1_795_356_185_999));
        for bad in [
            "",
            "yesterday",
            "-5",
            "99999999999999999999",
            "2026-13-01 00:00:00",
        ] {
            check(bad, None);
        }
        assert!(parse("2026-11-22 14:03:05").is_ok());
        assert!(parse("2026-11-22 14:03").is_ok());
    }
}
